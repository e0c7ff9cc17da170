"""Files with NCCL in them: which functions are found, where they are probed, and what is remembered of a file."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.model.test_nccl import PlayedProc, mapping_of
from xtrace.errors import ObjectError
from xtrace.kernel import symbols
from xtrace.kernel.proc import MappedFile
from xtrace.kernel.symbols import Extent
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.monitors.nccl import libraries
from xtrace.monitors.nccl.libraries import NO_SYMBOL, OVERSIZED, Identity, Library, SearchedFiles

ADDRESS = 0x1000
"""Where the beginning of the file is loaded."""
REDUCE, SEND, ALL_TO_ALL = (FUNCTIONS.index(name) for name in ("AllReduce", "Send", "AlltoAll"))
PUSH = b"\x55\x48\x89\xe5"
ENDBR64 = b"\xf3\x0f\x1e\xfa"
SUBTRACT = b"\x48\x83\xec\x08"
"""sub $8, %rsp: the kernel cannot emulate it."""


def elf(functions: Mapping[str, bytes], machine: int = 62) -> bytes:
    """A file that defines functions with this code; each is followed by unused bytes."""
    header_size = 64 + 56 + 3 * 64
    code, names, table = b"", b"\0", b""
    for name, text in functions.items():
        at = header_size + len(code)
        table += struct.pack("<IBBHQQ", len(names), 0x12, 0, 1, ADDRESS + at, len(text))
        names += name.encode() + b"\0"
        code += text.ljust(48, b"\xcc")
    at = header_size + len(code)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, at, len(table), 2, 0, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at + len(table), len(names), 0, 0, 1, 0)
    ident = b"\x7fELF\x02\x01\x01"
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, machine, 1, 0, 64, 120, 0, 64, 56, 1, 64, 3, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, ADDRESS, 0, at, at, 0x1000)
    return header + segment + sections + code + table + names


def place(number: int) -> int:
    """Where the code of a function begins in the file."""
    return 64 + 56 + 3 * 64 + 48 * number


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def played_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedProc:
    return PlayedProc(tmp_path / "proc", monkeypatch)


def searched(played: PlayedProc, content: bytes, files: SearchedFiles | None = None, name: str = "a.so") -> Library:
    found = (files or SearchedFiles()).library(7, mapping_of(played.stands(7, content, name)))
    assert found is not None
    return found


def test_functions_are_probed_where_the_kernel_need_not_single_step(played_proc: PlayedProc) -> None:
    library = searched(
        played_proc,
        elf(
            {
                "ncclAllReduce": PUSH,
                "ncclSend": ENDBR64 + PUSH,
                "ncclAllToAll": SUBTRACT,
                "ncclReduceScatterV2": PUSH,
                "ncclAllGatherV": PUSH,
                "ncclTeamWorld": PUSH,
                "pncclBcast": PUSH,
            }
        ),
    )
    assert library.offsets == {REDUCE: place(0), SEND: place(1) + len(ENDBR64), ALL_TO_ALL: place(2)}
    assert library.dear == ("ncclAlltoAll",)
    assert library.unknown == ("ncclAllGatherV", "ncclReduceScatterV2")
    assert (library.problem, library.is_user, library.is_oversized) == ("", True, False)


def test_only_the_first_bytes_of_a_function_are_looked_at(played_proc: PlayedProc) -> None:
    """Further ones may be another function's."""
    beyond = elf({"ncclAllReduce": ENDBR64 * 5 + PUSH})
    assert searched(played_proc, beyond).dear == ("ncclAllReduce",)
    assert searched(played_proc, elf({"ncclAllReduce": ENDBR64 * 4 + PUSH})).dear == ()


def test_on_other_machines_functions_are_probed_where_they_begin(
    played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    library = searched(played_proc, elf({"ncclAllReduce": SUBTRACT, "ncclSend": ENDBR64 + PUSH}, machine=183))
    assert (library.offsets, library.dear) == ({REDUCE: place(0), SEND: place(1)}, ())


def test_functions_that_are_one_in_the_file_are_probed_once(played_proc: PlayedProc) -> None:
    content = elf({"ncclAllReduce": PUSH, "ncclSend": PUSH})
    second = struct.pack("<Q", ADDRESS + place(1))
    assert content.count(second) == 1
    folded = content.replace(second, struct.pack("<Q", ADDRESS + place(0)))
    assert len(searched(played_proc, content).offsets) == 2
    assert list(searched(played_proc, folded, name="b.so").offsets.values()) == [place(0)]


def test_sizes_of_functions_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(elf({"ncclAllReduce": PUSH, "ncclAllToAll": PUSH * 3, "other": PUSH}))
    assert libraries.find_extents(str(tmp_path / "a.so")) == {
        REDUCE: Extent(place(0), 4),
        ALL_TO_ALL: Extent(place(1), 12),
    }
    (tmp_path / "text").write_bytes(b"x" * 100)
    with pytest.raises(ObjectError):
        libraries.find_extents(str(tmp_path / "text"))
    assert libraries.find_unknown(str(tmp_path / "text")) == ()


@pytest.mark.parametrize("name, is_user", [("libnccl.so.2", True), ("librccl.so", True), ("libnccl-net.so", False)])
def test_file_without_the_functions_says_why(played_proc: PlayedProc, name: str, is_user: bool) -> None:
    library = searched(played_proc, elf({"ncclSend": PUSH}), name=name)
    assert (library.offsets, library.problem, library.unknown, library.dear) == ({}, NO_SYMBOL, (), ())
    assert (library.is_user, library.is_oversized) == (is_user, False)


def test_file_whose_tables_are_too_large_says_so(played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "MOST_BYTES", 300)
    library = searched(played_proc, elf({"ncclAllReduce": PUSH}))
    assert (library.offsets, library.problem, library.is_oversized) == ({}, OVERSIZED, True)


def test_of_many_files_those_used_last_are_remembered(played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []

    def look(path: str) -> dict[int, int]:
        looked.append(Path(path).read_bytes())
        return {}

    monkeypatch.setattr(libraries, "find_functions", look)
    monkeypatch.setattr(libraries, "MOST_REMEMBERED", 3)
    mappings = {name: mapping_of(played_proc.stands(7, name.encode(), name)) for name in "abcd"}
    files = SearchedFiles()
    for name in "abcadbac":
        files.library(7, mappings[name])
    # d takes the place of b, which is then searched again and takes that of c
    assert b"".join(looked) == b"abcdbc"


@pytest.mark.parametrize("error, problem", [(errno.EPERM, "it cannot be read: "), (errno.ENOENT, None)])
def test_file_that_cannot_be_read_is_one_with_a_problem_and_one_that_is_gone_is_none(
    played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch, error: int, problem: str | None
) -> None:
    def fail(path: str) -> dict[int, int]:
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr(libraries, "find_functions", fail)
    found = SearchedFiles().library(7, mapping_of(played_proc.stands(7, b"x")))
    assert (found and found.problem) == (problem and problem + os.strerror(error))


def test_file_that_is_another_one_by_now_is_stale(played_proc: PlayedProc) -> None:
    library = searched(played_proc, elf({"ncclAllReduce": PUSH}))
    played_proc.stands(7, b"longer than before" * 100, "a.so")
    with pytest.raises(OSError, match="Stale") as stale, libraries.opened(library):
        pass
    assert stale.value.errno == errno.ESTALE


def library(inode: int, path: str, pid: int = 7) -> Library:
    return Library(Identity(1, inode, 1, 1, 1), path, pid, MappedFile("00:01", inode, path, "1-2"), {REDUCE: 64})


def test_files_are_told_apart_by_what_they_are_and_not_by_their_path() -> None:
    first, second, same = library(1, "/libnccl.so.2"), library(2, "/libnccl.so.2"), library(1, "/usr/libnccl.so.2", 8)
    assert libraries.split([first, second, same]) == ({first.identity: same, second.identity: second}, {})
    wrapper = library(3, "/wrapper.so")
    assert libraries.split([wrapper]) == ({wrapper.identity: wrapper}, {})
    assert libraries.split([wrapper, first]) == ({first.identity: first}, {wrapper.identity: wrapper})


def test_a_pipe_in_place_of_a_file_does_not_hold_up_the_search(tmp_path: Path) -> None:
    """Whoever owns the path may replace what was there a moment ago."""
    os.mkfifo(tmp_path / "pipe")
    assert libraries.find_functions(str(tmp_path / "pipe")) == {}
    assert libraries.find_unknown(str(tmp_path / "pipe")) == ()
