"""Which files are probed, how many at once, and what becomes of those that failed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import cast

import pytest

from xtrace.errors import KernelError
from xtrace.kernel.proc import MappedFile
from xtrace.monitors.backoff import FIRST_PAUSE_NS
from xtrace.monitors.nccl import probed
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.libraries import Identity, Library, User
from xtrace.monitors.nccl.probed import LINGER_NS, MOST_PROBED, ProbedFiles


class PlayedTables:
    """Attaches to nothing, or fails."""

    def __init__(self) -> None:
        self.fails = False
        self.attached: list[int] = []
        self.now = 0

    def attach(self, path: str, offsets: Mapping[int, int], file_number: int) -> ExitStack:
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


USER = User(7, 1, "python3", None)


def test_so_many_files_are_probed_and_others_when_there_is_room(
    files: ProbedFiles, tables: PlayedTables, said: list[str]
) -> None:
    everything = [library(number) for number in range(MOST_PROBED + 2)]
    for found in everything:
        files.probe(USER, found)
    assert len(tables.attached) == MOST_PROBED
    assert [line for line in said if "not probed: 64 files are, the most at once" in line] == said[MOST_PROBED:]
    used = {found.identity for found in everything[1:]}
    files.let_go(used)
    tables.now += LINGER_NS + 1
    files.let_go(used)
    files.probe(USER, everything[-1])
    assert [files.is_probed(found) for found in everything[-2:]] == [False, True]
    assert len(tables.attached) == MOST_PROBED
    files.close()
    assert tables.attached == []


def test_what_failed_is_tried_again_later(
    files: ProbedFiles, tables: PlayedTables, caplog: pytest.LogCaptureFixture
) -> None:
    tables.fails = True
    for _ in range(3):
        files.probe(USER, library(1))
    assert [record.getMessage() for record in caplog.records] == [
        "pid 7 (python3): /1/libnccl.so.2: not probed: perf_event_open: EMFILE (Too many open files);"
        " trying again later"
    ]
    tables.fails = False
    files.probe(USER, library(1))
    assert not files.is_probed(library(1))
    tables.now += FIRST_PAUSE_NS
    files.probe(USER, library(1))
    assert files.is_probed(library(1))
