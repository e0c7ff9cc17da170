"""A monitor that is read in a thread: its snapshots come when it answers, and nobody waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from xtrace.errors import XtraceError
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.monitors import apart
from xtrace.monitors.apart import Apart


class Slow:
    """Yields numbered snapshots, each once a test allows it."""

    mode, setup = "rdma", Setup()

    def __init__(self) -> None:
        self.ended = False
        self.closed = False
        self.allowed: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self.answered = threading.Semaphore(0)
        self.ticks = 0

    def fileno(self) -> int:
        return -1

    def react(self) -> None:
        """Nothing happens."""

    def flip(self, last: bool = False) -> None:
        raise AssertionError("the interval ends with the reading")

    def tick(self) -> Snapshot:
        error = self.allowed.get(timeout=10)
        if error is not None:
            raise error
        self.ticks += 1
        return Snapshot(end_ns=self.ticks, interval_ns=1)

    def finish(self) -> Snapshot:
        snapshot = self.tick()
        self.ended = True
        return snapshot

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def source() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.allowed.put(None)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watched(source: Slow, said: list[str]) -> Apart[Snapshot]:
    return Apart(source, 0.02, said.append)


def number(snapshot: Snapshot | None) -> int | None:
    return snapshot.end_ns if snapshot else None


def late(watched: Apart[Snapshot]) -> int | None:
    """The first snapshot that comes within many ticks."""
    return next((number(snapshot) for _ in range(10_000) if (snapshot := watched.tick())), None)


def test_an_answer_in_time_is_that_of_this_tick(source: Slow, watched: Apart[Snapshot], said: list[str]) -> None:
    watched._patience_s = 10
    for tick in (1, 2):
        source.allowed.put(None)
        watched.flip()
        assert number(watched.tick()) == tick
    source.allowed.put(None)
    watched.flip(last=True)
    assert number(watched.finish()) == 3
    assert watched.ended
    watched.close()
    assert source.closed
    assert said == []


def test_a_late_answer_comes_with_a_later_tick_and_is_not_asked_for_twice(
    source: Slow, watched: Apart[Snapshot], said: list[str]
) -> None:
    assert watched.tick() is None
    assert watched.tick() is None
    source.allowed.put(None)
    assert late(watched) == 1
    assert source.ticks == 1
    source.allowed.put(None)
    assert late(watched) == 2
    assert said == ["mode rdma: no answer within 0.01 s: its records come later and cover more time"]


def test_the_end_takes_the_answer_that_is_awaited(source: Slow, watched: Apart[Snapshot]) -> None:
    assert watched.tick() is None
    source.allowed.put(None)
    assert number(watched.finish()) == 1
    assert watched.ended
    watched.close()
    assert source.closed


def test_the_end_does_not_wait_for_one_that_never_answers(
    source: Slow, watched: Apart[Snapshot], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "END_S", 0.01)
    assert watched.finish() is None
    assert said == ["mode rdma: no answer within 0.01 s at the end: what happened since its last records is left out"]
    assert watched.ended
    watched.close()
    assert not source.closed, "its thread still uses what it holds"


def test_an_error_is_raised_where_the_snapshot_is_taken(source: Slow, watched: Apart[Snapshot]) -> None:
    watched._patience_s = 10
    source.allowed.put(XtraceError("gone"))
    with pytest.raises(XtraceError, match="gone"):
        watched.tick()
    source.allowed.put(None)
    assert number(watched.tick()) == 1


def test_a_reading_can_begin_when_the_interval_ends(source: Slow, said: list[str]) -> None:
    watched: Apart[Snapshot] = Apart(source, 20, said.append, at_flip=True)
    source.allowed.put(None)
    watched.flip()
    assert number(watched.tick()) == 1
    source.allowed.put(None)
    watched.flip(last=True)
    assert number(watched.finish()) == 2
    assert source.ended, "the last reading is the source's last"
    assert said == []
