"""The thread that follows processes: what it hands over, and that nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from xtrace.model.nccl import Skipped
from xtrace.monitors.nccl import watcher as watcher_module
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity
from xtrace.monitors.nccl.watcher import STUCK_NS, Watcher

FILE = Identity(1, 1, 1, 1, 1)
OLD, NEW = User(7, 1000, "old", None), User(7, 2000, "new", None)


class PlayedFinder:
    """Finds one process, then another one of its number; a step may block."""

    def __init__(self) -> None:
        self.users: dict[int, User] = {}
        self.gone: dict[int, User] = {}
        self.refused = {9}
        self.cut = {8: "more than 1024 files mapped executable"}
        self.sweeps = 0
        self.blocks = False
        self.blocked = threading.Event()
        self.goes_on = threading.Event()

    def grant(self, elapsed_ns: int) -> None:
        """Time is no matter here."""

    def sweep(self) -> None:
        self.sweeps += 1
        self.users = {7: OLD if self.sweeps == 1 else NEW}
        if self.sweeps == 2:
            self.gone[7] = OLD

    def step(self) -> bool:
        if self.blocks and self.sweeps > 1:
            self.blocked.set()
            self.goes_on.wait()
        return False

    def skipped(self) -> Skipped:
        return Skipped(cut_processes=1)


class PlayedFiles:
    """Probes one file."""

    def __init__(self, *_: object) -> None:
        self.unprobed = 3
        self.closed = False
        self.updated = threading.Semaphore(0)

    def update(self, users: Iterable[User]) -> list[int]:
        self.updated.release()
        return []

    def probed(self) -> dict[Identity, int]:
        return {FILE: 5}

    def close(self) -> None:
        self.closed = True


class PlayedTables:
    def __init__(self) -> None:
        self.forgotten: list[int] = []

    def last_begun(self) -> dict[int, int]:
        return {}

    def recount_communicators(self) -> None:
        """None are counted here."""

    def forget_process(self, pid: int) -> None:
        self.forgotten.append(pid)


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedFinder]:
    made = PlayedFinder()
    monkeypatch.setattr(watcher_module, "Finder", lambda: made)
    monkeypatch.setattr(watcher_module, "ProbedFiles", PlayedFiles)
    monkeypatch.setattr(watcher_module, "ROUND_S", 0.001)
    monkeypatch.setattr(watcher_module, "CLOSE_S", 0.05)
    yield made
    made.goes_on.set()


def follow(watcher: Watcher, rounds: int) -> None:
    files = cast("Any", watcher)._files
    for _ in range(rounds):
        assert files.updated.acquire(timeout=10)


def test_what_the_thread_found_is_handed_over(finder: PlayedFinder) -> None:
    said: list[str] = []
    tables = PlayedTables()
    watcher = Watcher(cast("CallTables", tables), said.append)
    follow(watcher, 4)
    watched = watcher.take()
    assert watched.users == {7: NEW}
    assert watched.gone == {7: OLD}
    assert watched.probed == {FILE: 5}
    assert watched.skipped == Skipped(cut_processes=1, unprobed_files=3)
    assert tables.forgotten == [7]
    assert watcher.take().gone == {}
    assert watcher.stop()
    assert said == [
        "mode nccl: not searched, because ptrace access is denied: pid 9",
        "mode nccl: pid 8: not searched as a whole: more than 1024 files mapped executable;"
        " cut_processes counts such processes",
    ]


def test_nobody_waits_for_a_file_that_does_not_answer(finder: PlayedFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    finder.blocks = True
    watcher = Watcher(cast("CallTables", PlayedTables()), said.append)
    assert finder.blocked.wait(10)
    assert watcher.take().users == {7: OLD}
    now = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now + STUCK_NS + 10**9)
    assert watcher.take().users == {7: OLD}
    assert said[-1] == "mode nccl: a file or process does not answer: no new process is followed until it does"
    assert not watcher.stop()
    assert cast("Any", watcher)._files.closed


def test_an_error_does_not_end_the_thread(
    finder: PlayedFinder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = finder.sweep

    def fail_once() -> None:
        sweep()
        if finder.sweeps == 2:
            raise RuntimeError("played")

    monkeypatch.setattr(finder, "sweep", fail_once)
    watcher = Watcher(cast("CallTables", PlayedTables()), lambda line: None)
    follow(watcher, 3)
    assert watcher.take().users == {7: NEW}
    assert watcher.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "mode nccl: looking for processes failed; trying again"
    ]


@pytest.mark.parametrize("refused, told", [(range(1, 6), "pid 1, 2, 3, 4, 5"), (range(1, 7), "pid 1, 2, 3, 4, 5, ...")])
def test_processes_that_must_not_be_searched_are_named_up_to_five(
    finder: PlayedFinder, refused: Iterable[int], told: str
) -> None:
    said: list[str] = []
    finder.refused = set(refused)
    watcher = Watcher(cast("CallTables", PlayedTables()), said.append)
    follow(watcher, 3)
    assert watcher.stop()
    assert said[0] == f"mode nccl: not searched, because ptrace access is denied: {told}"
    assert len(said) == 2, "each cause once"


def test_what_was_found_is_probed_while_there_is_more_to_search(
    finder: PlayedFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine full of processes must not keep a job's probes waiting."""
    steps = iter([True] * 5)
    monkeypatch.setattr(watcher_module, "SLICE_S", 0.0005)
    monkeypatch.setattr(watcher_module, "ROUND_S", 3600.0)

    def step() -> bool:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:  # longer than a slice
            continue
        return next(steps, False)

    monkeypatch.setattr(finder, "step", step)
    watcher = Watcher(cast("CallTables", PlayedTables()), lambda line: None)
    follow(watcher, 6)
    assert watcher.stop()
    assert finder.sweeps == 1


def test_one_round_follows_another_after_a_pause_and_not_without(
    finder: PlayedFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "ROUND_S", 3600.0)
    watcher = Watcher(cast("CallTables", PlayedTables()), lambda line: None)
    follow(watcher, 1)
    files = cast("Any", watcher)._files
    assert not files.updated.acquire(timeout=0.05), "the next round is an hour away"
    assert watcher.stop()
    assert finder.sweeps == 1
