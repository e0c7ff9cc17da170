"""A monitor that wraps another one: everything reaches it, and every snapshot is passed on."""

from __future__ import annotations

from typing import Any, cast

from xtrace.model.snapshot import Setup, Snapshot
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay


class Source:
    """Notes what it is told."""

    mode = "xdp"
    ended = False
    setup = Setup(map_memory=7)

    def __init__(self, *snapshots: Snapshot | None) -> None:
        self.told: list[Any] = []
        self._snapshots = iter(snapshots)

    def fileno(self) -> int:
        return 42

    def react(self) -> None:
        self.told.append("react")

    def flip(self, last: bool = False) -> None:
        self.told.append(("flip", last))

    def tick(self) -> Snapshot | None:
        self.told.append("tick")
        return next(self._snapshots)

    def finish(self) -> Snapshot | None:
        self.told.append("finish")
        return next(self._snapshots)

    def close(self) -> None:
        self.told.append("close")


class Counting(Relay[Snapshot]):
    """Another snapshot in place of each; counts those that are missing."""

    misses = 0

    def pass_on(self, snapshot: Snapshot) -> Snapshot:
        return Snapshot(snapshot.end_ns + 1, snapshot.interval_ns)

    def missed(self) -> None:
        self.misses += 1


def test_everything_reaches_the_source_and_snapshots_are_passed_on() -> None:
    source = Source(Snapshot(1, 5), None, Snapshot(3, 5))
    made = Counting(cast("Monitor[Snapshot]", source))
    assert (made.mode, made.setup, made.ended, made.fileno()) == ("xdp", Setup(7), False, 42)
    made.react()
    made.flip()
    assert made.tick() == Snapshot(2, 5)
    assert (made.tick(), made.misses) == (None, 1)
    made.flip(last=True)
    assert (made.finish(), made.misses) == (Snapshot(4, 5), 1)
    made.close()
    assert source.told == ["react", ("flip", False), "tick", "tick", ("flip", True), "finish", "close"]
    source.ended = True
    assert made.ended


def test_a_relay_changes_nothing_by_itself() -> None:
    shown = Snapshot(1, 5)
    made = Relay(cast("Monitor[Snapshot]", Source(shown, None)))
    assert made.tick() is shown
    assert made.finish() is None
