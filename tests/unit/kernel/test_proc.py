"""What is read of processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from xtrace.kernel import proc

LINE = "7f0000000000-7f0000001000 {} 00000000 08:01 {}                         {}\n"


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of process 7."""
    monkeypatch.setattr(proc, "_proc", lambda: str(tmp_path))
    (tmp_path / "7").mkdir()
    return tmp_path / "7"


def paths(pid: int) -> list[str]:
    return [file.path for files in proc.executed_files(pid) for file in files]


def test_files_are_those_that_are_mapped_executable(played: Path) -> None:
    maps = [
        LINE.format("r-xp", 5, "/usr/lib/a b.so"),
        LINE.format("r--p", 6, "/usr/lib/data"),
        LINE.format("r-xp", 0, "[vdso]"),
        "7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n",
        LINE.format("rwxs", 7, "/gone (deleted)"),
    ]
    (played / "maps").write_text("".join(maps))
    (files,) = proc.executed_files(7)
    assert [(file.device, file.inode, file.path) for file in files] == [
        ("08:01", 5, "/usr/lib/a b.so"),
        ("08:01", 7, "/gone (deleted)"),
    ]
    assert files[0].range == "7f0000000000-7f0000001000"


def test_executable_parts_of_a_file_have_their_addresses_and_places_in_it(played: Path) -> None:
    part = "{} {} {} 08:01 {}    {}\n"
    maps = [
        part.format("7f0000000000-7f0000001000", "r-xp", "00002000", 5, "/usr/lib/a b.so"),
        part.format("7f0000001000-7f0000002000", "r--p", "00003000", 5, "/usr/lib/a b.so"),
        part.format("7f0000003000-7f0000008000", "r-xp", "00005000", 5, "/usr/lib/a b.so"),
        part.format("7f0000009000-7f000000a000", "r-xp", "00005000", 6, "/usr/lib/a b.so"),
    ]
    (played / "maps").write_text("".join(maps))
    file = proc.MappedFile("08:01", 5, "/usr/lib/a b.so", "7f0000000000-7f0000001000")
    assert proc.executable_parts(7, file) == [
        (0x7F0000000000, 0x7F0000001000, 0x2000),
        (0x7F0000003000, 0x7F0000008000, 0x5000),
    ]
    assert proc.executable_parts(8, file) == []


@pytest.mark.parametrize("piece", [50, 99, 1 << 16])
def test_mappings_at_the_edge_of_a_piece_are_whole(played: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(proc, "MAPS_PIECE", piece)
    (played / "maps").write_text("".join(LINE.format("r-xp", number, f"/{number}") for number in range(1, 50)))
    assert paths(7) == [f"/{number}" for number in range(1, 50)]


def test_no_more_than_so_many_mappings_are_read(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "MAPS_PIECE", 1000)
    monkeypatch.setattr(proc, "MOST_MAPS_BYTES", 3000)
    (played / "maps").write_text("".join(LINE.format("r-xp", number, f"/{number}") for number in range(1, 1000)))
    found = 0
    with pytest.raises(proc.TooManyMappings):
        for files in proc.executed_files(7):
            found += len(files)
    assert 20 < found < 50


def test_a_process_that_is_gone_has_no_files(played: Path) -> None:
    assert paths(8) == []
    assert proc.real_uid(8) is None


def test_the_real_user_is_that_of_the_process() -> None:
    assert proc.real_uid(os.getpid()) == os.getuid()
    assert any(Path(path) == Path(sys.executable).resolve() for path in paths(os.getpid()))
