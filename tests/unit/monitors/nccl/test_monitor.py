"""What mode nccl remembers of processes when they end, and when another one gets their number."""

from __future__ import annotations

from typing import Any, cast

import pytest

from xtrace.kernel import proc
from xtrace.monitors.nccl.calls import Known
from xtrace.monitors.nccl.libraries import User
from xtrace.monitors.nccl.monitor import NcclMonitor

OLD, NEW = User(7, 1000, "old", None), User(7, 2000, "new", None)


class PlayedFinder:
    """Finds these processes one scan after the other."""

    def __init__(self, *scans: dict[int, User]) -> None:
        self._scans = list(scans)
        self.users: dict[int, User] = {}
        self.refused: set[int] = set()
        self.scan()

    def scan(self) -> None:
        self.users = self._scans.pop(0)


class PlayedTables:
    """Knows communicators."""

    def __init__(self) -> None:
        self.known = {(7, 0x1000): Known(8, 3, 0), (8, 0x1000): Known(8, 4, 0)}

    def communicators(self) -> dict[tuple[int, int], Known]:
        return dict(self.known)

    def forget(self, pid: int, address: int) -> None:
        del self.known[pid, address]


class PlayedFiles:
    def let_go(self, used: object) -> None:
        """None is probed."""


def monitor_of(*scans: dict[int, User]) -> tuple[NcclMonitor, PlayedTables]:
    """A monitor after the first of these scans, in which process 7 has called."""
    monitor, tables = NcclMonitor.__new__(NcclMonitor), PlayedTables()
    monitor._finder = cast("Any", PlayedFinder(*scans))
    monitor._tables = cast("Any", tables)
    monitor._files = cast("Any", PlayedFiles())
    monitor._gone, monitor._callers = {}, {7}
    return monitor, tables


def test_a_process_that_got_another_ones_number_does_not_get_its_communicators() -> None:
    monitor, tables = monitor_of({7: OLD}, {7: NEW})
    monitor._look()
    assert list(tables.known) == [(8, 0x1000)]
    assert monitor._gone == {7: OLD}
    assert monitor._callers == set()


@pytest.mark.parametrize(
    "started, kept",
    [(None, False), (2000, False), (1000, True)],
    ids=["ended", "number used again", "main thread ended"],
)
def test_communicators_are_kept_as_long_as_their_process(
    monkeypatch: pytest.MonkeyPatch, started: int | None, kept: bool
) -> None:
    monitor, tables = monitor_of({7: OLD}, {})
    monkeypatch.setattr(proc, "start_time", lambda pid: started if pid == 7 else 1)
    monitor._look()
    monitor._forget_gone(tables.communicators())
    assert ((7, 0x1000) in tables.known) is kept
    assert (8, 0x1000) in tables.known
