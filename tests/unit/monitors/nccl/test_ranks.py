"""Ranks of communicators: what is told of each, who is one without a call, and who is remembered."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xtrace.kernel import proc
from xtrace.kernel.syscall import lib
from xtrace.model.nccl import Frame, Mark, PeerCalls, Running, State
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.model.nccl_ranks import Arguments, Identity, Job, NumberedCall, OpenCall, PeerCount, Rank
from xtrace.monitors.nccl import gpus
from xtrace.monitors.nccl import ranks as ranks_module
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.earlier import Earlier, EarlierCall
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.ranks import ENDED_NS, MOST_PAST, MOST_PEERS, RankReader

PID, HERE = 70, (70, 0x1000)
NUMBERS = dict.fromkeys(State._fields, 0)
S = 1_000_000_000
WALL = 1_700_000_000 * S
"""The wall clock is so far ahead of the monotonic one."""
SLEPT = 5 * S
"""The machine was suspended for so long since it started."""
FLOAT32 = 7
JOB = Job("slurm:1", rank=3, world_size=8)


def state(**fields: Any) -> State:
    given: dict[str, Any] = {**NUMBERS, "marks": (), "id": 0xABC, "nranks": 2, "rank": 1, "is_whole": 1, **fields}
    return State(**given)


def running(function: str, **fields: Any) -> Running:
    given: dict[str, Any] = {**dict.fromkeys(Running._fields, 0), "pid": PID, "root": lib.NCCL_NO_ROOT, **fields}
    return Running(**{**given, "function": FUNCTIONS.index(function)})


def frame(thread: int = PID, stack: int = 0x100, pid: int = PID, function: int = 0) -> Frame:
    return Frame(pid << 32 | thread, stack, function)


ENDED = state(ended_by=lib.NCCL_COMM_DESTROY)


class Tables:
    """What the kernel side has."""

    has_returns = True

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], State] = {}
        self.departed: dict[tuple[int, int], State] = {}
        self.calls: dict[Frame, Running] = {}
        self.sent: dict[tuple[int, int], dict[int, PeerCalls]] = {}
        self.forgotten: list[object] = []

    def running(self) -> dict[Frame, Running]:
        return dict(self.calls)

    def peers(self) -> dict[tuple[int, int], dict[int, PeerCalls]]:
        return dict(self.sent)

    def states(self) -> dict[tuple[int, int], State]:
        return dict(self.known)

    def take_departed(self) -> dict[tuple[int, int], State]:
        found, self.departed = self.departed, {}
        return found

    def forget_running(self, frame: Frame) -> None:
        self.forgotten.append(frame)

    def forget_peers(self, pid: int, address: int, found: Mapping[int, PeerCalls]) -> None:
        self.forgotten.append((pid, address, list(found)))


@dataclass
class Process:
    """What /proc has of one: its start, state and start of each thread."""

    start: int = 100
    parent: int = 1
    threads: dict[int, tuple[str, int]] = field(default_factory=lambda: {PID: ("S", 100)})
    exit: str | None = None


class Machine:
    """Processes and clocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000 * S
        self.processes = {PID: Process()}
        clocks = SimpleNamespace(
            monotonic_ns=lambda: self.now, clock_gettime_ns=lambda clock: self.now + SLEPT, CLOCK_BOOTTIME=7
        )
        monkeypatch.setattr(ranks_module, "time", clocks)
        monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
        monkeypatch.setattr(ranks_module, "wall_offset", lambda: WALL)
        monkeypatch.setattr(gpus, "open_gpus", lambda pid: (pid % 8,))
        monkeypatch.setattr(proc, "start_time", lambda pid: self._of(pid, "start"))
        monkeypatch.setattr(proc, "parent", lambda pid: self._of(pid, "parent"))
        monkeypatch.setattr(proc, "exit_of", lambda pid: self._of(pid, "exit"))
        monkeypatch.setattr(proc, "thread_state", lambda pid, thread: self._thread(pid, thread)[0])
        monkeypatch.setattr(proc, "thread_start", lambda pid, thread: self._thread(pid, thread)[1])
        monkeypatch.setattr(proc, "thread_sleeps_in", lambda pid, thread: f"wait_{thread}")

    def _of(self, pid: int, name: str) -> Any:
        return getattr(self.processes[pid], name) if pid in self.processes else None

    def _thread(self, pid: int, thread: int) -> tuple[str | None, int | None]:
        return self.processes[pid].threads.get(thread, (None, None)) if pid in self.processes else (None, None)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def reader(tables: Tables) -> RankReader:
    return RankReader(cast("CallTables", tables), "h")


def user(pid: int = PID, start_time: int = 100, job: Job | None = None) -> User:
    return User(pid, start_time, "train", "c1", job=job, pod="p1")


def ranks(
    reader: RankReader, users: Mapping[int, User] | None = None, earlier: Mapping[int, Earlier] | None = None
) -> tuple[Rank, ...]:
    return reader.ranks(reader.see(), {PID: user()} if users is None else users, earlier or {})


def only(
    reader: RankReader, users: Mapping[int, User] | None = None, earlier: Mapping[int, Earlier] | None = None
) -> Rank:
    (rank,) = ranks(reader, users, earlier)
    return rank


def told(reader: RankReader) -> list[tuple[str | None, int, int | None]]:
    """Of each rank, by what it has left, its calls and its number."""
    return [(rank.left, rank.begun, rank.rank) for rank in ranks(reader)]


# what is told of a rank


def test_all_that_is_known_of_a_rank_is_told(tables: Tables, reader: RankReader) -> None:
    first = Mark(4, 900 * S, 1024, lib.NCCL_NO_ROOT, FUNCTIONS.index("AllReduce"), FLOAT32)
    second = Mark(5, 901 * S, 16, 3, FUNCTIONS.index("Broadcast"), FLOAT32)
    unmade = Mark(6, 902 * S, 1, 0, 0, 0)
    tables.known = {
        HERE: state(begun=5, returned=4, last_begin_ns=901 * S, last_return_ns=900 * S, marks=(second, first, unmade))
    }
    tables.sent = {HERE: {0: PeerCalls(2, 3, 800 * S, 0)}}
    users = {PID: user(job=JOB)}
    assert ranks(reader, users) == (
        Rank(
            host="h",
            pid=PID,
            at_ns=WALL + 1000 * S,
            command="train",
            container="c1",
            pod="p1",
            job=JOB,
            gpus=(PID % 8,),
            communicator="0000000000000abc",
            identity=Identity.UNIQUE_ID,
            address=0x1000,
            nranks=2,
            rank=1,
            is_whole=True,
            begun=5,
            returned=4,
            last_begin_ns=WALL + 901 * S,
            last_return_ns=WALL + 900 * S,
            sleeps_in=f"wait_{PID}",
            state="S",
            calls=(
                NumberedCall(4, WALL + 900 * S, Arguments("AllReduce", "float32", 1024, None)),
                NumberedCall(5, WALL + 901 * S, Arguments("Broadcast", "float32", 16, 3)),
            ),
            peers=(PeerCount(0, 2, 3, WALL + 800 * S, None),),
        ),
    )


def test_what_was_never_seen_is_not_told(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(nranks=0, rank=lib.NCCL_NO_RANK, is_whole=0)}
    rank = only(reader)
    assert (rank.nranks, rank.rank, rank.is_whole, rank.last_begin_ns, rank.open) == (None, None, False, None, None)
    assert (rank.returned, rank.is_open_known) == (0, False)
    tables.has_returns = False
    tables.known = {HERE: state(returned=0)}
    rank = only(reader)
    assert (rank.returned, rank.is_open_known) == (None, False)


def test_communicator_that_has_a_parent_is_known_by_it(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(parent=5)}
    assert only(reader).identity is Identity.PARENT


@pytest.mark.parametrize("sent, lost, known", [(MOST_PEERS, 0, True), (MOST_PEERS + 1, 0, False), (2, 1, False)])
def test_of_many_peers_the_latest_are_told(
    tables: Tables, reader: RankReader, sent: int, lost: int, known: bool
) -> None:
    tables.known = {HERE: state(peers_lost=lost)}
    tables.sent = {
        HERE: {
            peer: PeerCalls(1, 1, (peer + 1) * S if peer % 2 else 1, 1 if peer % 2 else (peer + 1) * S)
            for peer in range(sent)
        }
    }
    rank = only(reader)
    assert rank.are_peers_known is known
    assert [count.peer for count in rank.peers] == list(range(sent))[::-1][:MOST_PEERS]


def test_peers_of_a_communicator_that_is_gone_are_forgotten(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state()}
    counts = PeerCalls(1, 1, 1, 1)
    tables.sent = {HERE: {0: counts}, (PID, 0x2000): {1: counts}}
    ranks(reader)
    assert tables.forgotten == [(PID, 0x2000, [1])]


# the call it is in


def call(**fields: Any) -> Running:
    given = {"communicator": 0x1000, "datatype": FLOAT32, "elements": 8, "begin_ns": 999 * S, "number": 5, **fields}
    return running(given.pop("function", "AllReduce"), **given)


def test_a_call_on_the_communicator_is_the_one_it_is_in(tables: Tables, reader: RankReader, machine: Machine) -> None:
    machine.processes[PID].threads[71] = ("R", 100)
    tables.known = {HERE: state()}
    tables.calls = {
        frame(): call(function="GroupEnd", communicator=0, begin_ns=998 * S),
        frame(71): call(),
    }
    rank = only(reader)
    assert rank.open == OpenCall(Arguments("AllReduce", "float32", 8), WALL + 999 * S, 71, 5)
    assert (rank.state, rank.sleeps_in) == ("R", "wait_71")


def test_a_call_on_another_one_is_told_as_such(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state()}
    tables.calls = {frame(): call(function="Recv", communicator=0x2000, number=0, root=2)}
    rank = only(reader)
    assert rank.open == OpenCall(Arguments("Recv", "float32", 8, 2), WALL + 999 * S, PID, None, is_other=True)


def test_of_several_calls_the_oldest_is_told(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state()}
    tables.calls = {frame(stack=0x80): call(begin_ns=999 * S, number=6), frame(): call(begin_ns=997 * S, number=5)}
    opened = only(reader).open
    assert opened is not None and opened.number == 5


def started_ticks(begin_ns: int) -> int:
    """The kernel's count since the machine started, suspended time included, of a thread that starts then."""
    return (begin_ns + SLEPT) // (S // 100)


@pytest.mark.parametrize("later, is_there", [(0, True), (1, True), (2, False)])
def test_a_call_of_a_thread_that_is_gone_is_none(
    tables: Tables, reader: RankReader, machine: Machine, later: int, is_there: bool
) -> None:
    """A later thread may have the number; of starts in the same tick nothing tells which was first."""
    machine.processes[PID].threads[71] = ("S", started_ticks(999 * S) + later)
    tables.known = {HERE: state()}
    tables.calls = {frame(71): call()}
    assert (only(reader).open is not None) is is_there
    assert tables.forgotten == ([] if is_there else [frame(71)])


def test_a_call_of_a_process_that_has_ended_is_kept(tables: Tables, reader: RankReader, machine: Machine) -> None:
    """It tells what the process was in."""
    tables.known = {HERE: state()}
    tables.calls = {frame(71): call()}
    assert only(reader).open is None
    assert tables.forgotten == [frame(71)]
    del machine.processes[PID]
    rank = only(reader)
    assert rank.open is not None and rank.ended
    assert (rank.state, rank.sleeps_in) == (None, None)


@pytest.mark.parametrize(
    "begin_ns, stack, is_there", [(999, 0x200, False), (997, 0x200, True), (998, 0x200, True), (999, 0x100, True)]
)
def test_a_call_that_was_left_without_returning_is_none(
    tables: Tables, reader: RankReader, begin_ns: int, stack: int, is_there: bool
) -> None:
    """Another one of its thread began later and further up the stack."""
    tables.known = {HERE: state()}
    tables.calls = {
        frame(): call(begin_ns=998 * S, number=5),
        frame(stack=stack, function=1): call(communicator=0x2000, begin_ns=begin_ns * S),
    }
    opened = only(reader).open
    assert opened is not None and (opened.number == 5 and not opened.is_other) is is_there


def test_calls_of_other_threads_leave_a_call_where_it_is(tables: Tables, reader: RankReader, machine: Machine) -> None:
    machine.processes[PID].threads[71] = ("S", 100)
    tables.known = {HERE: state()}
    tables.calls = {frame(): call(begin_ns=998 * S), frame(71, 0x200): call(communicator=0x2000)}
    opened = only(reader).open
    assert opened is not None and not opened.is_other


@pytest.mark.parametrize(
    "function, identity, nranks, rank",
    [
        *((name, Identity.UNIQUE_ID, 4, 2) for name in ("CommInitRank", "CommInitRankConfig", "CommInitRankScalable")),
        *((name, Identity.PARENT, None, None) for name in ("CommSplit", "CommShrink")),
    ],
)
def test_a_rank_whose_communicator_is_being_made_is_known(
    tables: Tables, reader: RankReader, function: str, identity: Identity, nranks: int | None, rank: int | None
) -> None:
    tables.calls = {frame(): call(function=function, communicator=0, id=0xDEF, nranks=4, rank=2)}
    found = only(reader)
    assert (found.communicator, found.identity, found.nranks, found.rank) == (f"{0xDEF:016x}", identity, nranks, rank)
    assert (found.address, found.is_joined, found.is_whole) == (None, False, True)
    assert found.open == OpenCall(Arguments(function), WALL + 999 * S, PID, number=0)


@pytest.mark.parametrize("function, name", [("AllReduce", 0xDEF), ("CommInitRank", 0), ("CommInitAll", 0xDEF)])
def test_other_calls_make_no_rank(tables: Tables, reader: RankReader, function: str, name: int) -> None:
    tables.calls = {frame(): call(function=function, communicator=0, id=name)}
    assert ranks(reader) == ()


# the process


def test_a_number_that_another_process_has_is_a_process_that_has_ended(
    tables: Tables, reader: RankReader, machine: Machine
) -> None:
    tables.known = {HERE: state()}
    machine.processes[PID] = Process(start=101, exit=None)
    rank = only(reader)
    assert (rank.ended, rank.state, rank.sleeps_in) == (True, None, None)
    tables.known = {HERE: state(begun=2)}
    assert not only(reader, {}).ended, "nothing is known of the process that it was"


def test_a_zombie_has_ended_and_tells_how(tables: Tables, reader: RankReader, machine: Machine) -> None:
    tables.known = {HERE: state()}
    machine.processes[PID] = Process(threads={PID: ("Z", 100)}, exit="exit status 1")
    rank = only(reader)
    assert (rank.ended, rank.exit, rank.state) == (True, "exit status 1", None)
    del machine.processes[PID]
    rank = only(reader)
    assert (rank.ended, rank.exit) == (True, "exit status 1")


def test_a_process_whose_main_thread_has_ended_goes_on_in_others(
    tables: Tables, reader: RankReader, machine: Machine
) -> None:
    machine.processes[PID] = Process(threads={PID: ("Z", 100), 71: ("S", 100)}, exit="exit status 0")
    tables.known = {HERE: state()}
    tables.calls = {frame(71): call()}
    rank = only(reader)
    assert (rank.ended, rank.state, rank.exit) == (False, "S", None)
    machine.processes[PID].threads[71] = ("X", 100)
    assert only(reader).ended


def test_a_thread_that_has_just_ended_tells_nothing_of_its_process(
    tables: Tables, reader: RankReader, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.known = {HERE: state()}
    tables.calls = {frame(71): call()}
    monkeypatch.setattr(proc, "thread_start", lambda pid, thread: 100)  # gone right after that
    rank = only(reader)
    assert (rank.ended, rank.state) == (False, "S")


# by environment


def test_the_only_communicator_without_a_name_is_the_jobs(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(id=0, nranks=8, rank=lib.NCCL_NO_RANK)}
    other = user(71, job=replace_job(rank=4))
    first, second = (
        only(RankReader(cast("CallTables", tables), "h"), {PID: one})
        for one in (user(job=JOB), replace(other, pid=PID))
    )
    assert first.communicator == second.communicator != None  # noqa: E711
    assert first.communicator is not None and first.communicator.startswith("job-")
    assert (first.identity, first.nranks, first.rank, second.rank) == (Identity.ENVIRONMENT, 8, 3, 4)
    assert first.is_whole is False
    renamed = only(reader, {PID: user(job=replace_job(name="slurm:2"))})
    assert renamed.communicator != first.communicator


def replace_job(**fields: Any) -> Job:
    return JOB._replace(**fields)


@pytest.mark.parametrize(
    "nranks, job",
    [(4, JOB), (8, None), (8, replace_job(world_size=None)), (0, replace_job(world_size=0))],
    ids=["of another size", "no job", "of unknown size", "of no size"],
)
def test_a_communicator_that_cannot_be_the_jobs_has_no_name(
    tables: Tables, reader: RankReader, nranks: int, job: Job | None
) -> None:
    tables.known = {HERE: state(id=0, nranks=nranks, rank=1)}
    tables.calls = {frame(): call()}
    rank = only(reader, {PID: user(job=job)})
    assert (rank.communicator, rank.identity, rank.rank) == (None, None, 1)
    assert rank.nranks == (nranks or None)


def test_size_and_number_that_calls_told_count_more_than_the_environments(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(id=0, nranks=0, rank=0)}
    rank = only(reader, {PID: user(job=JOB)})
    assert (rank.identity, rank.nranks, rank.rank) == (Identity.ENVIRONMENT, 8, 0)


def test_of_two_communicators_without_names_neither_is_the_jobs(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(id=0, nranks=8), (PID, 0x2000): state(id=0, nranks=8)}
    assert ranks(reader, {PID: user(job=JOB)}) == ()
    tables.calls = {frame(): call()}
    assert only(reader, {PID: user(job=JOB)}).communicator is None


def test_a_named_communicator_leaves_the_other_one_to_the_job(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(), (PID, 0x2000): state(id=0, nranks=8)}
    identities = {rank.address: rank.identity for rank in ranks(reader, {PID: user(job=JOB)})}
    assert identities == {0x1000: Identity.UNIQUE_ID, 0x2000: Identity.ENVIRONMENT}


OLD = {PID: Earlier((), is_whole=True)}


def test_a_process_that_made_no_call_is_the_rank_of_its_environment(tables: Tables, reader: RankReader) -> None:
    users = {PID: user(job=JOB)}
    rank = only(reader, users, OLD)
    assert (rank.identity, rank.rank, rank.nranks, rank.address) == (Identity.ENVIRONMENT, 3, 8, None)
    assert (rank.command, rank.job, rank.state, rank.is_open_known) == ("train", JOB, "S", True)
    assert (rank := only(reader, users)).rank == 3, "it stays one when nothing is told of its stacks any more"
    assert not rank.is_open_known
    assert ranks(reader, {}) == ()
    assert ranks(reader, users) == ()


@pytest.mark.parametrize(
    "job", [None, replace_job(rank=None), replace_job(world_size=None), replace_job(world_size=0)], ids=str
)
def test_a_process_whose_environment_does_not_tell_is_no_rank(reader: RankReader, job: Job | None) -> None:
    assert ranks(reader, {PID: user(job=job)}, OLD) == ()


def test_rank_zero_is_a_rank(reader: RankReader) -> None:
    assert only(reader, {PID: user(job=replace_job(rank=0))}, OLD).rank == 0


@pytest.mark.parametrize("job, found", [(JOB, {PID}), (replace_job(rank=4), {PID, 71}), (None, {PID})])
def test_a_child_has_its_parents_environment_and_is_no_rank(
    reader: RankReader, machine: Machine, job: Job | None, found: set[int]
) -> None:
    machine.processes[71] = Process(parent=PID, threads={71: ("S", 100)})
    users = {PID: user(job=JOB), 71: user(71, job=job)}
    old = {PID: Earlier(), 71: Earlier()}
    assert {rank.pid for rank in ranks(reader, users, old)} == found


def test_a_process_with_a_communicator_is_no_rank_by_environment(tables: Tables, reader: RankReader) -> None:
    users = {PID: user(job=JOB)}
    tables.known = {HERE: state()}
    assert only(reader, users, OLD).identity is Identity.UNIQUE_ID
    tables.known, tables.departed = {}, {HERE: ENDED}
    assert only(reader, users, OLD).left == "CommDestroy"
    assert only(reader, users, OLD).left == "CommDestroy"


# what stacks tell


def on_stack(*threads: int, is_whole: bool = True) -> dict[int, Earlier]:
    calls = tuple(EarlierCall(thread, FUNCTIONS.index("AllGather"), 990 * S) for thread in threads)
    return {PID: Earlier(calls, is_whole)}


def test_a_call_on_the_stack_is_the_one_it_is_in(tables: Tables, reader: RankReader, machine: Machine) -> None:
    machine.processes[PID].threads[71] = ("D", 100)
    tables.known = {HERE: state(is_whole=0)}
    rank = only(reader, None, on_stack(71, 72))
    assert rank.open == OpenCall(Arguments("AllGather"), WALL + 990 * S, 71, is_from_stack=True)
    assert (rank.state, rank.sleeps_in, rank.is_open_known) == ("D", "wait_71", True)
    del machine.processes[PID].threads[71]
    assert only(reader, None, on_stack(71)).state == "S"


@pytest.mark.parametrize("is_whole", [True, False])
def test_whether_it_would_be_known_depends_on_the_stacks_read(
    tables: Tables, reader: RankReader, is_whole: bool
) -> None:
    tables.known = {HERE: state(is_whole=0)}
    rank = only(reader, None, on_stack(is_whole=is_whole))
    assert (rank.open, rank.is_open_known) == (None, is_whole)
    tables.calls = {frame(): call()}
    rank = only(reader, None, on_stack(71, is_whole=is_whole))
    assert rank.open is not None and not rank.open.is_from_stack
    assert rank.is_open_known is is_whole


def test_stacks_tell_nothing_of_a_rank_whose_calls_were_all_seen(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state()}
    rank = only(reader, None, on_stack(71, is_whole=False))
    assert (rank.open, rank.is_open_known) == (None, True)
    tables.has_returns = False
    assert only(reader, None, on_stack(71)).is_open_known is False


# those that are no more


def test_a_rank_that_leaves_between_two_ticks_is_remembered(tables: Tables, reader: RankReader) -> None:
    tables.known = {HERE: state(begun=7)}
    assert told(reader) == [(None, 7, 1)]
    tables.known, tables.departed = {}, {HERE: ENDED._replace(begun=8)}
    assert [told(reader) for _ in range(2)] == [[("CommDestroy", 8, 1)]] * 2


def test_a_rank_that_leaves_while_the_tables_are_read_is_remembered(tables: Tables, reader: RankReader) -> None:
    """It is in both then."""
    tables.known, tables.departed = {HERE: state(begun=7)}, {HERE: ENDED._replace(begun=7)}
    assert told(reader) == [("CommDestroy", 7, 1)]
    tables.known = {}
    assert told(reader) == [("CommDestroy", 7, 1)]


def test_another_communicator_at_the_address_of_one_that_was_left_is_there(tables: Tables, reader: RankReader) -> None:
    tables.known, tables.departed = {HERE: state(id=0xDEF, rank=0)}, {HERE: ENDED}
    assert sorted(told(reader), key=str) == [("CommDestroy", 0, 1), (None, 0, 0)]


def test_a_rank_that_has_left_is_in_no_call_of_its_communicator(tables: Tables, reader: RankReader) -> None:
    tables.departed = {HERE: ENDED}
    tables.calls = {frame(): call(communicator=0x2000)}
    (rank,) = ranks(reader)
    assert (rank.left, rank.open) == ("CommDestroy", None)


def test_a_rank_that_has_ended_is_forgotten_after_a_while(tables: Tables, reader: RankReader, machine: Machine) -> None:
    tables.known, tables.calls = {HERE: state(begun=3)}, {frame(): call()}
    del machine.processes[PID]
    assert only(reader).open is not None
    tables.calls = {}
    machine.now += ENDED_NS - 1
    rank = only(reader)
    assert rank.open is not None, "the call in which it ended"
    assert rank.at_ns == WALL + machine.now
    tables.known = {}
    assert only(reader).begun == 3
    machine.now += 1
    assert ranks(reader) == ()


def test_a_rank_that_has_ended_is_known_while_others_of_its_communicator_are_there(
    tables: Tables, reader: RankReader, machine: Machine
) -> None:
    machine.processes[71] = Process(threads={71: ("S", 100)})
    tables.known = {HERE: state(rank=0), (71, 0x1000): state(rank=1)}
    users = {PID: user(), 71: user(71)}
    assert [rank.ended for rank in ranks(reader, users)] == [False, False]
    del machine.processes[PID]
    assert sorted(rank.ended for rank in ranks(reader, users)) == [False, True]
    del tables.known[HERE]
    machine.now += 10 * ENDED_NS
    assert sorted(rank.ended for rank in ranks(reader, users)) == [False, True]
    tables.known = {}
    assert ranks(reader, users) == ()


def test_a_rank_that_was_taken_for_ended_and_is_there_is_told_once(
    tables: Tables, reader: RankReader, machine: Machine
) -> None:
    tables.known = {HERE: state()}
    process = machine.processes.pop(PID)
    assert only(reader).ended
    machine.processes[PID] = process
    assert not only(reader).ended
    tables.known = {}
    assert ranks(reader) == ()


def gone(count: int) -> Iterator[tuple[tuple[int, int], State]]:
    return (((PID, number), ENDED._replace(id=number)) for number in range(1, count + 1))


def test_of_many_that_are_no_more_the_latest_are_known(tables: Tables, reader: RankReader, machine: Machine) -> None:
    tables.departed = dict(gone(3))
    assert len(ranks(reader)) == 3
    machine.now += 1
    tables.departed = {where: left for where, left in gone(MOST_PAST + 2) if where[1] > 3}
    found = ranks(reader)
    assert len(found) == MOST_PAST
    assert sum(rank.address is not None and rank.address <= 3 for rank in found) == 1
