"""Mode nccl from interval to interval: whose calls, how long, what of them is known."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import pytest

from xtrace.errors import PrivilegeError, XtraceError
from xtrace.kernel import privileges, proc
from xtrace.kernel.cgroup_paths import Place
from xtrace.kernel.syscall import lib
from xtrace.model.nccl import CallKey, CallTotals, Counters, NcclSetup, NcclSnapshot, Skipped, State
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_ras import RasReport
from xtrace.monitors.buffers import Ended
from xtrace.monitors.nccl import monitor as monitor_module
from xtrace.monitors.nccl.calls import Known, TakenCalls
from xtrace.monitors.nccl.earlier import Earlier
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity, Library
from xtrace.monitors.nccl.monitor import MOST_NEWCOMERS, NcclMonitor, NcclOptions, RasOptions
from xtrace.monitors.nccl.ranks import Seen
from xtrace.monitors.nccl.watcher import Watched

FILE = Identity(1, 1, 1, 1, 1)
LIBRARY = Library(FILE, "/usr/lib/libnccl.so.2", 7, cast("Any", None), {0: 64})
REDUCE, GROUP_END = FUNCTIONS.index("AllReduce"), FUNCTIONS.index("GroupEnd")
REPORT = RasReport("localhost:28028", 1, "2.28.9", (), 0)


def user(pid: int = 7, start_time: int = 1000) -> User:
    return User(pid, start_time, "python3 train.py", "ab" * 32, {FILE: LIBRARY})


def key(pid: int = 7, communicator: int = 0x1000, function: int = REDUCE, **fields: int) -> CallKey:
    rank = fields.get("rank", int(lib.NCCL_NO_RANK))
    return CallKey(communicator, pid, fields.get("nranks", 0), rank, function, 7)


def state_of(known: Known) -> State:
    rank = lib.NCCL_NO_RANK if known.rank is None else known.rank
    device = lib.NCCL_NO_DEVICE if known.device is None else known.device
    return State(known.nranks or 0, rank, device, *(0,) * 11, marks=())


class World:
    """All that the monitor stands on, and what happens to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.said: list[str] = []
        self.calls: dict[CallKey, Counters] = {}
        self.totals = CallTotals()
        self.known: dict[tuple[int, int], Known] = {}
        self.watched = Watched()
        self.started: dict[int, int] = {}
        self.now_ns = 1000
        self.multi, self.max_keys, self.has_returns = True, 4096, True
        self.answers: bool | None = True

    # the call tables, the watcher of processes and the RAS service at once

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.happened.append("close tables")

    def memory(self) -> int:
        return 1 << 20

    def flip(self) -> Ended:
        self.happened.append("flip")
        return Ended(self.now_ns, (0,))

    def collect(self, interval: Ended) -> TakenCalls:
        self.happened.append("collect")
        return TakenCalls(interval.monotonic_ns, self.calls, self.totals)

    def see(self) -> Seen:
        states = {where: state_of(known) for where, known in self.known.items()}
        return Seen(states, {}, {}, {}, self.now_ns, 10**18 + self.now_ns)

    def ranks(self, seen: Seen, users: Mapping[int, User], earlier: Mapping[int, Earlier]) -> tuple[Rank, ...]:
        return ()

    def forget(self, pid: int, address: int) -> None:
        del self.known[pid, address]

    def stop(self) -> bool:
        self.happened.append("stop watching")
        return True

    def close(self) -> None:
        self.happened.append("close RAS")


class FakeWatcher:
    def __init__(self, tables: World, say: object) -> None:
        self._world = tables

    def take(self) -> Watched:
        return self._world.watched

    def end(self) -> None:
        self._world.happened.append("end watching")

    def stop(self) -> bool:
        return self._world.stop()


class FakeRas:
    def __init__(self, world: World) -> None:
        self._world = world
        self._reports: list[RasReport | None] = [None, REPORT]

    @property
    def answers(self) -> bool | None:
        return self._world.answers

    def follow(self, pids: Iterable[int]) -> None:
        """Nobody is asked."""

    def take(self) -> RasReport | None:
        return self._reports.pop(0) if self._reports else None

    def close(self) -> None:
        self._world.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(privileges, "missing", lambda needed: [])
    for name in ("raise_memlock_limit", "raise_open_files_limit"):
        monkeypatch.setattr(privileges, name, lambda name=name: made.happened.append(name))
    monkeypatch.setattr(proc, "sees_all", lambda: True)
    monkeypatch.setattr(proc, "start_time", lambda pid: made.started.get(pid))
    monkeypatch.setattr(proc, "command", lambda pid: f"late {pid}")
    monkeypatch.setattr(proc, "place", lambda pid: Place(container=f"container {pid}"))
    monkeypatch.setattr(monitor_module, "CallTables", lambda max_calls: made)
    monkeypatch.setattr(monitor_module, "RankReader", lambda tables, host: made)
    monkeypatch.setattr(monitor_module, "Watcher", FakeWatcher)
    monkeypatch.setattr(monitor_module, "RasServices", lambda address, every_s: FakeRas(made))
    monkeypatch.setattr(time, "monotonic_ns", lambda: made.now_ns)
    monkeypatch.setattr(time, "time_ns", lambda: 10**18 + made.now_ns)
    return made


@pytest.fixture
def monitor(world: World) -> Iterator[NcclMonitor]:
    world.watched = Watched({7: user()}, probed={FILE: 500})
    made = NcclMonitor(world.said.append, NcclOptions("n1"))
    yield made
    made.close()


def one_process(snapshot: NcclSnapshot, pid: int = 7) -> Any:
    (found,) = (process for process in snapshot.processes if process.pid == pid)
    return found


def test_without_a_process_it_says_that_it_looks_for_one(world: World) -> None:
    monitor = NcclMonitor(world.said.append, NcclOptions("n1"))
    assert world.said == ["mode nccl: no process uses NCCL now; looking for new ones every second"]
    assert (monitor.mode, monitor.ended, monitor.pids()) == ("nccl", False, [])
    monitor.close()
    assert world.happened == [
        "raise_memlock_limit",
        "raise_open_files_limit",
        "flip",
        "collect",
        "stop watching",
        "close tables",
    ]


def test_with_a_process_it_says_nothing(world: World, monitor: NcclMonitor) -> None:
    assert (world.said, monitor.pids()) == ([], [7])


def test_missing_capabilities_are_named_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "missing", lambda needed: ["CAP_PERFMON"])
    with pytest.raises(PrivilegeError, match=r"^mode nccl needs CAP_PERFMON"):
        NcclMonitor(world.said.append, NcclOptions("n1"))
    assert world.happened == []


def test_a_proc_with_other_numbers_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "sees_all", lambda: False)
    with pytest.raises(XtraceError, match="process IDs in this container's /proc differ"):
        NcclMonitor(world.said.append, NcclOptions("n1"))


@pytest.mark.parametrize("multi, attach", [(True, "uprobe_multi"), (False, "perf_event")])
def test_setup_says_how_it_attaches(world: World, monitor: NcclMonitor, multi: bool, attach: str) -> None:
    world.multi = multi
    assert monitor.setup == NcclSetup(1 << 20, attach, 4096)


def test_intervals_follow_each_other_without_a_gap(world: World, monitor: NcclMonitor) -> None:
    lengths = []
    for now in (6000, 11_500):
        world.now_ns = now
        snapshot = monitor.tick()
        lengths.append((snapshot.end_ns, snapshot.interval_ns))
    world.now_ns = 12_000
    monitor.flip(last=True)
    world.now_ns = 99_000  # what reading takes belongs to no interval
    snapshot = monitor.finish()
    lengths.append((snapshot.end_ns, snapshot.interval_ns))
    assert lengths == [(10**18 + 6000, 5000), (10**18 + 11_500, 5500), (10**18 + 12_000, 500)]
    assert monitor.ended
    assert world.happened[4:] == ["flip", "collect", "flip", "collect", "flip", "end watching", "collect"]


def test_interval_that_was_flipped_is_read_and_not_ended_again(world: World, monitor: NcclMonitor) -> None:
    monitor.flip()
    monitor.tick()
    monitor.finish()
    assert world.happened[4:] == ["flip", "collect", "flip", "end watching", "collect"]


def test_calls_are_those_of_their_process_and_communicator(world: World, monitor: NcclMonitor) -> None:
    world.known = {(7, 0x2000): Known(2, 1, 5), (7, 0x1000): Known(8, 3, 6), (9, 0x1000): Known(4, 0, None)}
    world.calls = {
        key(): Counters(3, 30),
        key(function=GROUP_END, communicator=0): Counters(2),
        key(pid=9): Counters(5, 50, command="worker"),
    }
    world.totals = CallTotals(entries=10)
    world.started = {9: 77}
    snapshot = monitor.tick()
    assert (snapshot.totals, snapshot.sums.totals) == (CallTotals(entries=10), CallTotals(entries=10))
    assert [process.pid for process in snapshot.processes] == [7, 9]
    first = one_process(snapshot)
    assert [(c.address, c.nranks, c.rank, c.device, len(c.operations)) for c in first.communicators] == [
        *((0x1000, 8, 3, 6, 1), (0x2000, 2, 1, 5, 0)),
    ]
    assert [operation.function for operation in first.operations] == ["GroupEnd"]
    assert (first.command, first.container, first.libraries) == (
        *("python3 train.py", "ab" * 32, ("/usr/lib/libnccl.so.2",)),
    )
    assert first.probed and not first.ended
    newcomer = one_process(snapshot, 9)
    assert (newcomer.command, newcomer.container, newcomer.libraries) == ("late 9", "container 9", ())
    assert newcomer.probed and not newcomer.ended, "it called, and is there"
    summed = {(series.pid, series.function): calls.calls for series, calls in snapshot.sums.calls.items()}
    assert summed == {("7", "AllReduce"): 3, ("7", "GroupEnd"): 2, ("9", "AllReduce"): 5}


def test_process_that_called_and_was_never_found_is_named_by_its_thread(world: World, monitor: NcclMonitor) -> None:
    world.calls = {key(pid=9): Counters(5, 50, command="worker")}
    found = one_process(monitor.tick(), 9)
    assert (found.command, found.container, found.ended) == ("[worker]", None, True)


def test_process_that_ended_has_one_last_record(world: World, monitor: NcclMonitor) -> None:
    world.known = {(7, 0x1000): Known(8, 3, 6)}
    world.calls = {key(): Counters(1)}
    world.watched = Watched({}, gone={7: user()}, probed={FILE: 500})
    last = one_process(monitor.tick())
    assert (last.ended, last.command, len(last.communicators)) == (True, "python3 train.py", 1)
    assert world.known == {}, "its number and addresses may be used again"
    world.calls, world.watched = {}, Watched()
    assert monitor.tick().processes == ()


def test_number_that_is_used_again_is_a_running_process(world: World, monitor: NcclMonitor) -> None:
    world.started = {7: 2000}
    world.watched = Watched({7: user(start_time=2000)}, gone={7: user()}, probed={FILE: 500})
    assert not one_process(monitor.tick()).ended


def test_process_whose_files_are_not_probed_is_not_known_to_be_silent(world: World, monitor: NcclMonitor) -> None:
    world.watched = Watched({7: user()})
    assert not one_process(monitor.tick()).probed


def test_what_is_not_searched_and_what_ras_says_is_in_the_snapshot(world: World) -> None:
    world.watched = Watched(skipped=Skipped(1, 2, 3))
    monitor = NcclMonitor(world.said.append, NcclOptions("n1", ras=RasOptions((("localhost", 28028),), 60.0)))
    first, second = monitor.tick(), monitor.tick()
    world.answers = False
    third = monitor.tick()
    monitor.close()
    assert first.skipped == Skipped(1, 2, 3)
    assert [(one.ras, one.ras_answers) for one in (first, second, third)] == [
        *((None, True), (REPORT, True), (None, False)),
    ]
    assert "close RAS" in world.happened


def test_without_ras_nothing_is_known_of_it(world: World, monitor: NcclMonitor) -> None:
    snapshot = monitor.tick()
    assert (snapshot.ras, snapshot.ras_answers) == (None, None)


@pytest.mark.parametrize("more, told", [(-1, False), (0, True)])
def test_process_that_used_all_its_keys_is_told_once(world: World, monitor: NcclMonitor, more: int, told: bool) -> None:
    number = lib.NCCL_PROCESS_KEYS + more
    world.calls = {key(communicator=address): Counters(1) for address in range(1, number + 1)}
    for _ in range(2):
        monitor.tick()
    line = (
        f"mode nccl: pid 7: {number} combinations of communicator, function and datatype in one interval, the most for"
        " one process: its calls with others are unattributed"
    )
    assert world.said == ([line] if told else [])


def test_newcomers_that_are_looked_up_are_bounded(world: World, monitor: NcclMonitor) -> None:
    world.calls = {key(pid=pid): Counters(1, command="worker") for pid in range(100, 100 + MOST_NEWCOMERS + 10)}
    world.started = {call.pid: 5 for call in world.calls}
    commands = [process.command for process in monitor.tick().processes if process.pid != 7]
    assert len(commands) == MOST_NEWCOMERS + 10
    assert sum(command == "[worker]" for command in commands) == 10


def test_times_of_ticks_are_the_monitors_own_business(monitor: NcclMonitor) -> None:
    assert monitor.fileno() == -1
    monitor.react()
