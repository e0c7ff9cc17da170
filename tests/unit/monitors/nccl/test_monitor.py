"""What mode nccl remembers of processes when they end, and when another one gets their number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from xtrace.kernel import proc
from xtrace.monitors.nccl.calls import Known
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity, Library
from xtrace.monitors.nccl.monitor import NcclMonitor
from xtrace.monitors.nccl.watcher import Watched

FILE = Identity(1, 1, 1, 1, 1)
OLD, NEW = User(7, 1000, "old", None), User(7, 2000, "new", None)


class PlayedTables:
    """Knows communicators."""

    def __init__(self) -> None:
        self.known = {(7, 0x1000): Known(8, 3, 0), (8, 0x1000): Known(8, 4, 0)}

    def communicators(self) -> dict[tuple[int, int], Known]:
        return dict(self.known)

    def forget(self, pid: int, address: int) -> None:
        del self.known[pid, address]


def monitor_of(watched: Watched) -> tuple[NcclMonitor, PlayedTables]:
    """A monitor whose thread knows that, and in which process 7 has called."""
    monitor, tables = NcclMonitor.__new__(NcclMonitor), PlayedTables()
    monitor._tables = cast("Any", tables)
    monitor._watched = watched
    monitor._callers = {7}
    return monitor, tables


@pytest.mark.parametrize(
    "started, kept",
    [(None, False), (2000, False), (1000, True)],
    ids=["ended", "number used again", "main thread ended"],
)
def test_communicators_are_kept_as_long_as_their_process(
    monkeypatch: pytest.MonkeyPatch, started: int | None, kept: bool
) -> None:
    monitor, tables = monitor_of(Watched(gone={7: OLD}))
    monkeypatch.setattr(proc, "start_time", lambda pid: started if pid == 7 else 1)
    monitor._forget_gone(tables.communicators())
    assert ((7, 0x1000) in tables.known) is kept
    assert (8, 0x1000) in tables.known
    assert monitor._callers == set()


@pytest.mark.parametrize("probed", [{FILE: 5}, {}])
def test_a_process_whose_file_lost_its_probes_is_no_longer_known_to_be_seen(probed: dict[Identity, int]) -> None:
    library = Library(FILE, "/libnccl.so.2", 7, cast("Any", None), {0: 64})
    user = User(7, 2000, "new", None, libraries={FILE: library})
    monitor, tables = monitor_of(Watched(users={7: user}, probed=probed))
    assert monitor._are_probed(user) is bool(probed)
    monitor._forget_gone(tables.communicators())
    assert monitor._callers == ({7} if probed else set())


def test_a_process_that_was_not_searched_as_a_whole_may_call_unseen() -> None:
    library = Library(FILE, "/libnccl.so.2", 7, cast("Any", None), {0: 64})
    user = User(7, 2000, "new", None, libraries={FILE: library}, is_cut=True)
    monitor, _ = monitor_of(Watched(users={7: user}, probed={FILE: 5}))
    assert not monitor._are_probed(user)


@pytest.mark.parametrize(
    "start, files, seen",
    [
        (100, {1, 2}, 500),  # since the first of them was probed
        (100, {2}, 100),
        (499, {1, 2}, 500),
        (500, {1, 2}, None),  # it was there from the beginning
        (600, {1, 2}, None),
        (100, {3}, None),
        (100, set[int](), None),
        (100, {4}, None),  # after the end
    ],
)
def test_calls_of_a_process_were_counted_since_its_first_library_was_probed(
    start: int, files: set[int], seen: int | None
) -> None:
    made = NcclMonitor.__new__(NcclMonitor)
    made._start_ns = start
    made._watched = cast("Any", SimpleNamespace(probed={1: 500, 2: 900, 4: 1000}))
    user = cast("Any", SimpleNamespace(libraries=dict.fromkeys(files)))
    assert made._seen_ns(user, 1000) == seen
    assert made._seen_ns(None, 1000) is None


@pytest.mark.parametrize(
    "libraries, left_out, is_cut, known",
    [
        ({1}, set[int](), False, True),
        ({1, 2}, set[int](), False, True),
        ({1, 3}, set[int](), False, False),
        ({1}, {3}, False, False),
        ({1}, set[int](), True, False),
        (set[int](), set[int](), False, False),
    ],
)
def test_calls_are_known_where_every_file_of_a_process_is_probed(
    libraries: set[int], left_out: set[int], is_cut: bool, known: bool
) -> None:
    made = NcclMonitor.__new__(NcclMonitor)
    made._watched = cast("Any", SimpleNamespace(probed={1: 500, 2: 900}))
    one, other = dict.fromkeys(libraries), dict.fromkeys(left_out)
    user = cast("Any", SimpleNamespace(libraries=one, left_out=other, is_cut=is_cut))
    assert made._are_probed(user) is known
    assert not made._are_probed(None)


def test_the_last_interval_ends_the_run_and_the_search_for_processes() -> None:
    done: list[str] = []
    made = NcclMonitor.__new__(NcclMonitor)
    made.ended, made._interval = False, None

    def flip() -> str:
        done.append("flip")
        return "interval"

    made._tables = cast("Any", SimpleNamespace(flip=flip))
    made._watcher = cast("Any", SimpleNamespace(end=lambda: done.append("end")))
    made._snapshot = cast("Any", lambda: done.append("snapshot"))  # type: ignore[method-assign]
    made.tick()
    assert (done, made.ended) == (["flip", "snapshot"], False)
    made.flip(last=True)
    assert made.ended
    made.finish()
    assert done[2:] == ["flip", "end", "snapshot"], "it has ended by flip(), and is only read"
    done.clear()
    made.ended = False
    made.finish()
    assert (done, made.ended) == (["flip", "end", "snapshot"], True)
