"""The ranks of communicators: what the kernel side has counted, with the processes that they are."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from xtrace.kernel import proc
from xtrace.kernel.syscall import lib
from xtrace.model.nccl import Frame, PeerCalls, Running, State
from xtrace.model.nccl_names import FUNCTIONS, datatype_name
from xtrace.model.nccl_ranks import Arguments, Identity, Job, NumberedCall, OpenCall, PeerCount, Rank, without_replaced
from xtrace.monitors.nccl.calls import CallTables, Known
from xtrace.monitors.nccl.earlier import Earlier
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.gpus import Gpus
from xtrace.monitors.wall import wall_offset

ENDED_NS = 60_000_000_000
"""A rank that is no more is known for so long; as long as others of its communicator are there, if any are."""

MOST_PAST = 1024
"""Of these, the latest."""

Where = tuple[int, "int | None", "str | None"]
"""Process id, address and name of a communicator: another one may take the address."""

MOST_PEERS = 256
"""Of one rank: those of the latest sends and receives."""

MAKERS = frozenset(
    (
        *(lib.NCCL_COMM_INIT_RANK, lib.NCCL_COMM_INIT_RANK_CONFIG, lib.NCCL_COMM_INIT_RANK_SCALABLE),
        *(lib.NCCL_COMM_SPLIT, lib.NCCL_COMM_SHRINK),
    )
)
"""Functions that make one communicator, of which every rank calls them."""


class Seen(NamedTuple):
    """All that the kernel side knows at one time."""

    states: Mapping[tuple[int, int], State]
    """by process id and address"""
    departed: Mapping[tuple[int, int], State]
    """those that were ended since this was read before, as they were then"""
    running: Mapping[int, list[tuple[Frame, Running]]]
    """by process id, oldest first"""
    peers: Mapping[tuple[int, int], Mapping[int, PeerCalls]]
    monotonic_ns: int
    wall_ns: int

    def wall(self, monotonic_ns: int) -> int | None:
        """The same time by the wall clock; None for 0."""
        return monotonic_ns + self.wall_ns - self.monotonic_ns if monotonic_ns else None

    def in_use(self) -> set[tuple[int, int]]:
        """Process id and address of each communicator that a call is running on."""
        return {(pid, call.communicator) for pid, calls in self.running.items() for _, call in calls}


class RankReader:
    """Reads the ranks at each tick, and remembers those whose process has ended."""

    def __init__(self, tables: CallTables, host: str) -> None:
        self._tables = tables
        self._host = host
        self._past: dict[Where, tuple[Rank, int]] = {}
        """ranks whose process has ended, or that have left: as last seen, and when that was seen first"""
        self._gpus = Gpus()
        self._silent: set[int] = set()
        """processes that are a rank by their environment, and have made no call since the probes"""

    def see(self) -> Seen:
        """What the kernel side knows now, without the calls of threads that are gone."""
        running: defaultdict[int, list[tuple[Frame, Running]]] = defaultdict(list)
        calls = sorted(self._tables.running().items(), key=lambda found: found[1].begin_ns)
        by_thread: defaultdict[int, list[tuple[Frame, Running]]] = defaultdict(list)
        for frame, call in calls:
            by_thread[frame.thread].append((frame, call))
        for frame, call in calls:
            if _is_over(frame, call):
                self._tables.forget_running(frame)
            elif not _is_abandoned(frame, call, by_thread[frame.thread]):
                running[call.pid].append((frame, call))
        peers = self._tables.peers()
        states = self._tables.states()
        departed = self._tables.take_departed()  # after the states: none is in neither
        states = {where: state for where, state in states.items() if not _is_same(state, departed.get(where))}
        for (pid, address), found in peers.items():
            if (pid, address) not in states:
                self._tables.forget_peers(pid, address, found)
        now = time.monotonic_ns()
        return Seen(states, departed, running, peers, now, now + wall_offset())

    def ranks(self, seen: Seen, users: Mapping[int, User], earlier: Mapping[int, Earlier]) -> tuple[Rank, ...]:
        """All ranks known now. `users`: the processes, those that ended since the last call among them.

        `earlier`: what the stacks tell of those that are older than their probes.
        """
        self._note_departed(seen, users)
        found: dict[tuple[int, int | None], Rank] = {}
        in_use = seen.in_use()
        unnamed = Counter(pid for (pid, _), state in seen.states.items() if not state.id)
        for (pid, address), state in seen.states.items():
            user = users.get(pid)
            is_only = unnamed[pid] == 1
            # of thousands of addresses that a process calls there may be nothing to tell, and each costs reading proc
            if state.id or (is_only and user and user.job) or (pid, address) in in_use:
                found[pid, address] = self._rank(seen, pid, address, state, user, is_only)
        for pid, calls in seen.running.items():
            for frame, call in calls:
                if call.function in MAKERS and call.id:
                    found[pid, None] = self._joining(seen, frame, call, users.get(pid))
        known = {pid for pid, _ in found} | {pid for pid, _, _ in self._past}
        self._silent = set(self._find_silent(users, earlier, known))
        for pid in self._silent:
            found[pid, None] = self._by_environment(seen, pid, users[pid])
        found = {where: self._with_stacks(seen, rank, earlier) for where, rank in found.items()}
        return tuple(without_replaced(self._with_past(found, seen)))

    def _find_silent(self, users: Mapping[int, User], earlier: Mapping[int, Earlier], known: set[int]) -> Iterator[int]:
        """Processes older than their probes of which no communicator is known, and that are a rank by environment.

        A child inherits the environment: of a process and those it has started, only the first is the rank.
        """
        for pid in (earlier.keys() | self._silent) & users.keys() - known:  # one may have ended since
            job, parent = users[pid].job, users.get(proc.parent(pid) or 0)
            if job is None or job.rank is None or not job.world_size:
                continue
            if parent is None or parent.job != job:
                yield pid

    def _by_environment(self, seen: Seen, pid: int, user: User) -> Rank:
        """A rank that has made no call on a communicator since the probes."""
        assert user.job is not None
        return replace(
            self._process(seen, pid, user, None),
            communicator=_name_of(user.job),
            identity=Identity.ENVIRONMENT,
            nranks=user.job.world_size,
            rank=user.job.rank,
        )

    def _with_stacks(self, seen: Seen, rank: Rank, earlier: Mapping[int, Earlier]) -> Rank:
        """The same with what stacks tell of calls that began before the probes."""
        stacks = earlier.get(rank.pid)
        if not self._tables.has_returns:
            return replace(rank, is_open_known=False)
        if rank.is_whole or stacks is None:
            return rank
        if rank.open is not None or not stacks.calls:
            return replace(rank, is_open_known=stacks.is_whole)
        call = stacks.calls[0]
        since = seen.wall(call.since_ns) or 0
        opened = OpenCall(Arguments(FUNCTIONS[call.function]), since, call.thread, is_from_stack=True)
        return replace(
            rank,
            open=opened,
            state=proc.thread_state(rank.pid, call.thread) or rank.state,
            sleeps_in=proc.thread_sleeps_in(rank.pid, call.thread),
        )

    def _rank(self, seen: Seen, pid: int, address: int, state: State, user: User | None, is_only: bool) -> Rank:
        job = user.job if user else None
        name, identity = _identity(state, job if is_only else None)
        by_job = job if identity is Identity.ENVIRONMENT else None
        known = Known.of(state)
        opened = self._open(seen, pid, address, state.id)
        return replace(
            self._process(seen, pid, user, opened[0] if opened else None),
            communicator=name,
            identity=identity,
            address=address,
            nranks=known.nranks or (by_job.world_size if by_job else None),
            rank=known.rank if known.rank is not None else (by_job.rank if by_job else None),
            is_whole=bool(state.is_whole and state.id),
            begun=state.begun,
            returned=state.returned if self._tables.has_returns else None,
            last_begin_ns=seen.wall(state.last_begin_ns),
            last_return_ns=seen.wall(state.last_return_ns),
            open=opened[1] if opened else None,
            calls=tuple(
                NumberedCall(
                    mark.number,
                    seen.wall(mark.begin_ns) or 0,
                    arguments(mark.function, mark.datatype, mark.elements, mark.root),
                )
                for mark in sorted(state.marks)
                if mark.number <= state.begun
            ),
            peers=tuple(_peers(seen, seen.peers.get((pid, address), {}))),
            are_peers_known=not state.peers_lost and len(seen.peers.get((pid, address), {})) <= MOST_PEERS,
        )

    def _joining(self, seen: Seen, frame: Frame, call: Running, user: User | None) -> Rank:
        """A rank in the call that makes its communicator."""
        opened = OpenCall(Arguments(FUNCTIONS[call.function]), seen.wall(call.begin_ns) or 0, _thread(frame), number=0)
        is_child = call.function in (lib.NCCL_COMM_SPLIT, lib.NCCL_COMM_SHRINK)
        return replace(
            self._process(seen, call.pid, user, _thread(frame)),
            communicator=f"{call.id:016x}",
            identity=Identity.PARENT if is_child else Identity.UNIQUE_ID,
            nranks=None if is_child else call.nranks,
            rank=None if is_child else call.rank,
            is_whole=True,
            is_joined=False,
            open=opened,
        )

    def _process(self, seen: Seen, pid: int, user: User | None, thread: int | None) -> Rank:
        start_time = proc.start_time(pid)
        state = None
        if start_time is not None and (user is None or start_time == user.start_time):
            state = proc.thread_state(pid, pid if thread is None else thread) or proc.thread_state(pid, pid)
        if state in ("Z", "X"):  # the main thread may have ended before others
            is_last = thread is None or proc.thread_state(pid, thread) in (None, "Z", "X")
            state = None if is_last else state
        return Rank(
            host=self._host,
            pid=pid,
            at_ns=seen.wall_ns,
            command=user.command if user else "",
            container=user.container if user else None,
            pod=user.pod if user else None,
            job=user.job if user else None,
            gpus=self._gpus.of(pid, start_time, seen.monotonic_ns),
            state=state,
            sleeps_in=None if state is None else proc.thread_sleeps_in(pid, pid if thread is None else thread),
            ended=state is None,
            exit=proc.exit_of(pid) if state is None and start_time is not None else None,
        )

    def _open(self, seen: Seen, pid: int, address: int, id_: int) -> tuple[int, OpenCall] | None:
        """The call that a rank is in, and its thread: on the communicator, else another one of its process.

        Threads of one process may be ranks of one communicator: in their calls no other rank is.
        """
        others = {where[1] for where, state in seen.states.items() if where[0] == pid and id_ and state.id == id_}
        calls = [found for found in seen.running.get(pid, []) if found[1].communicator not in others - {address}]
        own = [found for found in calls if found[1].communicator == address]
        for frame, call in own or calls:
            made = arguments(call.function, call.datatype, call.elements, call.root)
            since = seen.wall(call.begin_ns) or 0
            return _thread(frame), OpenCall(made, since, _thread(frame), call.number or None, is_other=not own)
        return None

    def _note_departed(self, seen: Seen, users: Mapping[int, User]) -> None:
        """Remember the ranks that have left a communicator, as they were then."""
        for (pid, address), state in seen.departed.items():
            rank = self._rank(seen, pid, address, state, users.get(pid), is_only=False)
            self._past[_where(rank)] = replace(rank, left=FUNCTIONS[state.ended_by], open=None), seen.monotonic_ns

    def _with_past(self, found: Mapping[tuple[int, int | None], Rank], seen: Seen) -> Iterator[Rank]:
        now = seen.monotonic_ns
        there: set[str | None] = set()
        for rank in found.values():
            if rank.ended:
                first = self._past.get(_where(rank), (rank, now))
                last = replace(rank, exit=rank.exit or first[0].exit, open=rank.open or first[0].open)
                self._past[_where(rank)] = last, first[1]
            else:
                there.add(rank.communicator)
                self._past.pop(_where(rank), None)
                yield rank
        kept = sorted(self._past.items(), key=lambda one: one[1][1])[-MOST_PAST:]
        self._past = {
            where: (rank, since)
            for where, (rank, since) in kept
            if rank.communicator in there or now - since < ENDED_NS
        }
        yield from (replace(rank, at_ns=seen.wall_ns) for rank, _ in self._past.values())


def _is_same(state: State, departed: State | None) -> bool:
    """Whether it is the communicator that has been ended: another one may have the address."""
    return departed is not None and departed.id == state.id


def _is_over(frame: Frame, call: Running) -> bool:
    """Whether its thread is gone, and its process is not; another thread may have the number."""
    started = proc.thread_start(call.pid, _thread(frame))
    if started is None:
        return proc.start_time(call.pid) is not None
    return started > latest_start(call.begin_ns)


def latest_start(begin_ns: int) -> int:
    """The latest start, in kernel ticks since boot, of a thread that began a call at that time (CLOCK_MONOTONIC)."""
    suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return (begin_ns + suspended_ns) * os.sysconf("SC_CLK_TCK") // 1_000_000_000 + 1  # the two are not read at once


def _where(rank: Rank) -> Where:
    return rank.pid, rank.address, rank.communicator


def arguments(function: int, datatype: int, elements: int, root: int) -> Arguments:
    """The kernel's numbers as words; the count only of functions that have one."""
    name = datatype_name(datatype)
    return Arguments(
        FUNCTIONS[function],
        name,
        None if name is None else elements,
        None if root == lib.NCCL_NO_ROOT else root,
    )


def _identity(state: State, job: Job | None) -> tuple[str | None, Identity | None]:
    """The name of a communicator that is the same in all its processes. `job`: if that can tell."""
    if state.id:
        return f"{state.id:016x}", Identity.PARENT if state.parent else Identity.UNIQUE_ID
    if job is not None and job.world_size and (not state.nranks or state.nranks == job.world_size):
        return _name_of(job), Identity.ENVIRONMENT
    return None, None


def _name_of(job: Job) -> str:
    """The name of the communicator of a job's processes, where nothing but their environment tells."""
    return f"job-{sha256(job.name.encode()).hexdigest()[:12]}"


def _peers(seen: Seen, found: Mapping[int, PeerCalls]) -> Iterable[PeerCount]:
    latest = sorted(found.items(), key=lambda one: max(one[1].last_send_ns, one[1].last_receive_ns), reverse=True)
    for peer, calls in latest[:MOST_PEERS]:
        times = seen.wall(calls.last_send_ns), seen.wall(calls.last_receive_ns)
        yield PeerCount(peer, calls.sends, calls.receives, *times)


def _thread(frame: Frame) -> int:
    return frame.thread & 0xFFFFFFFF


def _is_abandoned(frame: Frame, call: Running, calls: Iterable[tuple[Frame, Running]]) -> bool:
    """Whether its thread, whose `calls` these are, has left the call without returning: a later one is further up."""
    return any(later.begin_ns > call.begin_ns and other.stack > frame.stack for other, later in calls)
