"""Which files are probed, how many at once, and what becomes of those that failed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import cast

import pytest

from xtrace.errors import KernelError
from xtrace.kernel.proc import MappedFile
from xtrace.monitors.backoff import FIRST_PAUSE_NS
from xtrace.monitors.nccl import probed
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity, Library
from xtrace.monitors.nccl.probed import LINGER_NS, MOST_PROBED, ProbedFiles
from xtrace.monitors.nccl.slots import IDLE_NS


class PlayedTables:
    """Attaches to nothing, or fails; files were called as a test says."""

    def last_called_ns(self, file_number: int) -> int:
        return self.called.get(file_number, 0)

    def __init__(self) -> None:
        self.fails = False
        self.attached: list[int] = []
        self.now = 0
        self.takes_ns = 0
        self.called: dict[int, int] = {}

    def attach(self, path: str, offsets: Mapping[int, int], file_number: int) -> ExitStack:
        assert (path, offsets) == ("/proc/self/fd/3", {0: 64})
        self.now += self.takes_ns
        if self.fails:
            raise KernelError("perf_event_open", 24)
        probes = ExitStack()
        self.attached.append(file_number)
        probes.callback(self.attached.remove, file_number)
        return probes


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> PlayedTables:
    monkeypatch.setattr(probed, "opened", lambda library: nullcontext("/proc/self/fd/3"))
    return PlayedTables()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def files(tables: PlayedTables, said: list[str]) -> ProbedFiles:
    return ProbedFiles(cast("CallTables", tables), said.append, lambda: tables.now)


def library(number: int) -> Library:
    path = f"/{number}/libnccl.so.2"
    return Library(Identity(1, number, 1, 1, 1), path, 7, MappedFile("00:01", number, path, "1-2"), {0: 64})


def user(*numbers: int, uid: int = 0) -> User:
    """A process that has these files mapped."""
    found = [library(number) for number in numbers]
    return User(7, 1, "python3", None, {one.identity: one for one in found}, uid=uid)


def probed_numbers(files: ProbedFiles) -> list[int]:
    return sorted(identity.inode for identity in files.probed())


def test_so_many_files_are_probed_and_others_when_there_is_room(
    files: ProbedFiles, tables: PlayedTables, said: list[str]
) -> None:
    everything = range(MOST_PROBED + 2)
    files.update([user(*everything)])
    assert probed_numbers(files) == list(range(MOST_PROBED))
    assert files.unprobed == 2
    files.update([user(*everything)])
    assert [line for line in said if "not probed: 64 files are, the most at once" in line] == said[MOST_PROBED:]
    files.update([user(*everything[1:])])
    # a file without a process makes room at once
    assert probed_numbers(files) == list(range(1, MOST_PROBED + 1))
    assert (len(tables.attached), files.unprobed) == (MOST_PROBED, 1)
    files.close()
    assert tables.attached == []


def test_a_file_without_a_process_stays_probed_for_a_while(files: ProbedFiles, tables: PlayedTables) -> None:
    files.update([user(1)])
    files.update([])
    tables.now += LINGER_NS
    files.update([])
    assert probed_numbers(files) == [1]
    tables.now += 1
    files.update([])
    assert tables.attached == []


def test_one_users_copies_take_no_slot_from_another_user(files: ProbedFiles, tables: PlayedTables) -> None:
    copies = user(*range(100, 100 + 2 * MOST_PROBED), uid=1000)
    files.update([copies])
    tables.now += 1
    tables.called = dict.fromkeys(tables.attached, tables.now)  # busy ones, too
    job = user(1, 2, 3)
    files.update([copies, job])
    assert probed_numbers(files)[:3] == [1, 2, 3]
    assert len(tables.attached) == MOST_PROBED
    held = probed_numbers(files)
    for _ in range(3):
        tables.now += 1
        files.update([copies, job])
        assert probed_numbers(files) == held


def test_a_file_that_is_not_called_makes_room_for_one_that_waits_and_then_waits_itself(
    files: ProbedFiles, tables: PlayedTables
) -> None:
    everything = user(*range(MOST_PROBED + 1))
    files.update([everything])
    tables.now += IDLE_NS
    # all but that of file 9, whose number is 10, are called
    tables.called = dict.fromkeys(set(tables.attached) - {10}, tables.now)
    files.update([everything])
    assert probed_numbers(files) == [number for number in range(MOST_PROBED + 1) if number != 9]
    tables.called = dict.fromkeys(set(tables.attached) - {4}, tables.now + IDLE_NS)
    tables.now += IDLE_NS - 1
    files.update([everything])
    assert 9 not in probed_numbers(files)
    tables.now += 1
    files.update([everything])
    assert probed_numbers(files) == [number for number in range(MOST_PROBED + 1) if number != 3]


def test_what_failed_is_tried_again_later(
    files: ProbedFiles, tables: PlayedTables, caplog: pytest.LogCaptureFixture
) -> None:
    tables.fails = True
    for _ in range(3):
        files.update([user(1)])
    assert [record.getMessage() for record in caplog.records] == [
        "pid 7 (python3): /1/libnccl.so.2: not probed: perf_event_open: EMFILE (Too many open files)"
        " (raise the limit: `ulimit -n 4096`, LimitNOFILE= of a service); trying again later"
    ]
    tables.fails = False
    files.update([user(1)])
    assert files.probed() == {}
    tables.now += FIRST_PAUSE_NS
    files.update([user(1)])
    assert probed_numbers(files) == [1]


def test_after_the_end_nothing_is_probed_any_more(files: ProbedFiles, tables: PlayedTables) -> None:
    files.update([user(1)])
    files.close()
    files.update([user(1, 2)])
    assert tables.attached == []


def test_probes_that_were_being_attached_at_the_end_are_detached(
    files: ProbedFiles, tables: PlayedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = tables.attach

    def attach_late(path: str, offsets: Mapping[int, int], file_number: int) -> ExitStack:
        probes = attach(path, offsets, file_number)
        files.close()
        return probes

    monkeypatch.setattr(tables, "attach", attach_late)
    files.update([user(1)])
    assert tables.attached == []
    assert files.probed() == {}


def test_attaching_that_takes_long_goes_on_in_the_next_round(files: ProbedFiles, tables: PlayedTables) -> None:
    """Who was found meanwhile is not to wait for a machine's every file."""
    tables.takes_ns = 400_000_000
    everything = user(1, 2, 3, 4, 5)
    for probed_now in (3, 5, 5):
        assert files.update([everything]) == []
        assert len(tables.attached) == probed_now
        assert files.unprobed == 0


def test_process_whose_file_was_replaced_is_searched_again(
    files: ProbedFiles, tables: PlayedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(library: Library) -> nullcontext[str]:
        if library.identity.inode == 2:
            raise OSError(116, "Stale file handle")
        return nullcontext("/proc/self/fd/3")

    monkeypatch.setattr(probed, "opened", replaced)
    assert files.update([user(1, 2)]) == [7]
    assert probed_numbers(files) == [1]


def test_file_without_functions_is_told_once_and_costs_no_probe(
    files: ProbedFiles, tables: PlayedTables, said: list[str]
) -> None:
    bare = replace(library(1), offsets={}, problem="no symbol ncclAllReduce (stripped or hidden)")
    one = User(7, 1, "python3", None, {bare.identity: bare})
    for _ in range(2):
        assert files.update([one]) == []
    assert tables.attached == []
    assert said == [
        "pid 7 (python3): /1/libnccl.so.2: no symbol ncclAllReduce (stripped or hidden): its calls are not seen"
    ]


def test_probed_file_is_told_with_its_process(files: ProbedFiles, said: list[str]) -> None:
    files.update([user(1)])
    assert said == ["probing 1 functions of /1/libnccl.so.2 (pid 7: python3)"]


def test_of_many_names_the_first_eight_are_said() -> None:
    assert probed.named("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert probed.named("abcdefghi") == "a, b, c, d, e, f, g, h, ..."


def test_a_file_that_a_process_has_beyond_the_most_is_told_once(
    files: ProbedFiles, tables: PlayedTables, said: list[str]
) -> None:
    left = library(3)
    having = replace(user(1, 2), left_out={left.identity: left})
    files.update([having])
    files.update([having])
    assert [line for line in said if "not probed beside" in line] == [
        "pid 7 (python3): /3/libnccl.so.2: has NCCL's functions, and is not probed beside /1/libnccl.so.2,"
        " /2/libnccl.so.2: calls past that are not seen"
    ]
    assert probed_numbers(files) == [1, 2]
