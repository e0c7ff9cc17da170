"""Which rank keeps a communicator waiting, from what is known of its ranks. No I/O, nothing of the kernel.

A verdict says what the evidence carries and no more: that a call was enqueued, or not, on the host. What the GPU has
done of it is not known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from xtrace.model import nccl_limits
from xtrace.model.limits import Limit
from xtrace.model.nccl_lateness import behind, common, median
from xtrace.model.nccl_ranks import GROUP_END, RECEIVES, SENDS, Arguments, Identity, NumberedCall, Rank

LATE_CALLS = 3
"""A rank is late that was so in as many of the calls last compared, one after the other."""

MOST_LISTED = 8


class Limits(NamedTuple):
    """What is normal."""

    hang_ns: int | None
    """ranks may wait for another one for so long; None: without end"""
    late_ns: int | None
    """a rank may begin a call so much later than the others do"""

    @classmethod
    def of(cls, thresholds: Mapping[str, Limit]) -> Limits:
        """Return what the thresholds of nccl_limits.LIMITS, perhaps changed, say."""
        seconds = (thresholds[name].warn for name in ("hang", "late"))
        return cls(*(None if limit is None else round(limit * 1e9) for limit in seconds))


NORMAL = Limits.of(nccl_limits.LIMITS)


class Kind(str, Enum):
    """What is wrong, worst first."""

    GONE = "gone"
    """the process has ended"""
    STOPPED = "stopped"
    """the process is stopped, or in uninterruptible sleep"""
    MISMATCH = "mismatch"
    """it made the call with another function, count, datatype or root than the others"""
    OPEN_SEND = "open_send"
    """it is in a send that the other rank has no receive for"""
    MISSING = "missing"
    """it has not made the call that the others made"""
    ALL_STOPPED = "all_stopped"
    """all ranks are in the same call"""
    LATE = "late"
    """it begins calls later than the others"""


ORDER = list(Kind)


@dataclass(frozen=True)
class Verdict:
    """What is wrong with one rank of a communicator, or with all."""

    kind: Kind
    communicator: str
    identity: Identity | None
    since_ns: int
    evidence: str
    number: int | None = None
    """of the call that the others wait in; None: not known"""
    function: str | None = None
    """that they are in"""
    waiting: tuple[int, ...] = ()
    """ranks"""
    nranks: int | None = None
    rank: int | None = None
    """None: all, or its number is not known"""
    peer: int | None = None
    culprit: Rank | None = None
    """None: it was not seen, or there is none"""
    job: str | None = None


def judge(ranks: Iterable[Rank], now_ns: int, limits: Limits, *, has_all_hosts: bool) -> list[Verdict]:
    """All verdicts, worst first. `has_all_hosts`: whether a rank that is not among `ranks` is nowhere else, either."""
    groups: defaultdict[str, list[Rank]] = defaultdict(list)
    for rank in ranks:
        if rank.communicator is not None:
            groups[rank.communicator].append(rank)
    found = [
        verdict for members in groups.values() for verdict in _Group(members, now_ns, limits, has_all_hosts).verdicts()
    ]
    return sorted(found, key=lambda verdict: (ORDER.index(verdict.kind), verdict.since_ns))


class _Group:
    """The ranks of one communicator."""

    def __init__(self, members: Sequence[Rank], now_ns: int, limits: Limits, has_all_hosts: bool) -> None:
        self._now = now_ns
        self._limits = limits
        self._has_all_hosts = has_all_hosts
        self._members = sorted(members, key=lambda rank: (rank.rank is None, rank.rank or 0, rank.host, rank.pid))
        self._first = self._members[0]
        self._nranks = max((rank.nranks for rank in members if rank.nranks), default=None)

    def verdicts(self) -> list[Verdict]:
        """What is wrong with them."""
        if all(rank.is_whole for rank in self._members):
            found = [*self._mismatches(), *self._waited_for()]
            # a mismatch explains that all wait
            if any(one.kind is Kind.MISMATCH for one in found):
                found = [one for one in found if one.kind is not Kind.ALL_STOPPED]
            return found or list(self._late())
        return list(self._waited_for_since_some_time())

    # ranks that others wait for

    def _waited_for(self) -> Iterator[Verdict]:
        members = self._members
        absent = self._absent()
        frontier = max(rank.made for rank in members)
        least = min(rank.made for rank in members)
        if least < frontier:
            behind = [rank for rank in members if rank.made == least]
            waiting = [rank for rank in members if rank.made > least]
            if self._have_waited(waiting) and all(map(self._is_quiet, behind)):
                yield from (self._about(rank, waiting, least + 1) for rank in behind)
            return
        lost = [rank for rank in members if rank.ended or rank.state in ("T", "t")]
        waiting = [rank for rank in members if rank not in lost]
        if not waiting or not all(rank.waits for rank in waiting) or not self._have_waited(waiting):
            return
        if lost:
            yield from (self._about(rank, waiting, frontier) for rank in lost)
        elif absent and frontier == 0:
            yield from (self._not_seen(rank, waiting) for rank in absent)
        elif self._nranks is None or len(members) == self._nranks or self._has_all_hosts:
            yield self._all_stopped(waiting, frontier, absent)

    def _absent(self) -> list[int]:
        """Ranks that were not seen, if they could have been."""
        if not self._has_all_hosts or self._nranks is None:
            return []
        return sorted(set(range(self._nranks)) - {rank.rank for rank in self._members if rank.rank is not None})

    def _have_waited(self, waiting: Sequence[Rank]) -> bool:
        """Whether nobody of them went on for so long that it counts as hanging."""
        alive = [rank for rank in waiting if not rank.ended]
        return bool(alive) and self._lasts(max(_waits_since(rank) for rank in alive))

    def _lasts(self, since_ns: int) -> bool:
        limit = self._limits.hang_ns
        return limit is not None and self._now - since_ns >= limit

    def _is_quiet(self, rank: Rank) -> bool:
        return rank.ended or self._lasts(rank.quiet_since_ns)

    def _about(self, culprit: Rank, waiting: Sequence[Rank], number: int) -> Verdict:
        """The verdict about a rank that others wait for in call `number`."""
        since = min(_made_at(rank, number) for rank in waiting)
        base = self._verdict(Kind.MISSING, since, waiting, number, culprit)
        lacks = _lacks(culprit, number, waiting)
        if culprit.ended:
            how = culprit.exit or "how is not known"
            return replace(base, kind=Kind.GONE, evidence=f"its process has ended ({how}); {lacks}")
        if culprit.state in ("T", "t"):
            return replace(base, kind=Kind.STOPPED, evidence=f"its process is stopped (state {culprit.state}); {lacks}")
        if culprit.state == "D":
            return replace(base, kind=Kind.STOPPED, evidence=f"it is in uninterruptible sleep (state D); {lacks}")
        unmatched = self._unmatched(culprit)
        if unmatched:
            peer, evidence = unmatched
            return replace(base, kind=Kind.OPEN_SEND, peer=peer, evidence=f"{evidence}; {lacks}")
        return replace(base, evidence=f"{lacks}; {self._whereabouts(culprit)}")

    def _unmatched(self, culprit: Rank) -> tuple[int, str] | None:
        """The rank that a send or receive waits for, and the evidence, if that one has made fewer than it needs."""
        call = culprit.open
        if call is None or call.arguments.function not in (SENDS, RECEIVES, GROUP_END):
            return None
        for peer in culprit.peers:
            other = next((rank for rank in self._members if rank.rank == peer.peer), None)
            if other is None or not (culprit.are_peers_known and other.are_peers_known) or culprit.rank is None:
                continue
            if call.arguments.function != GROUP_END and call.arguments.root != peer.peer:
                continue
            back = next((one for one in other.peers if one.peer == culprit.rank), None)
            received, sent = (back.receives, back.sends) if back else (0, 0)
            if peer.sends > received:
                text = f"{peer.sends} sends to rank {peer.peer}, which has made {received} receives from it"
                return peer.peer, f"{self._whereabouts(culprit)}, with {text}"
            if peer.receives > sent:
                text = f"{peer.receives} receives from rank {peer.peer}, which has made {sent} sends to it"
                return peer.peer, f"{self._whereabouts(culprit)}, with {text}"
        return None

    def _whereabouts(self, rank: Rank) -> str:
        call = rank.open
        if call is None:
            asleep = f", its main thread sleeps in {rank.sleeps_in}" if rank.sleeps_in else ""
            if not rank.quiet_since_ns:
                none = "it has made no call" if rank.is_whole else "nor any other, and none since the tool came"
                return f"{none}{asleep}"
            return f"it is in no NCCL call, the last one was {seconds(self._now - rank.quiet_since_ns)} ago{asleep}"
        if call.is_from_stack:
            return f"it is in {call.arguments} since before the tool came, by the stack of thread {call.thread}"
        where = " on another communicator" if call.is_other and call.arguments.elements is not None else ""
        return f"it is in {call.arguments}{where} since {seconds(self._now - call.since_ns)} (thread {call.thread})"

    def _not_seen(self, number: int, waiting: Sequence[Rank]) -> Verdict:
        since = min(_waits_since(rank) for rank in waiting)
        hosts = ", ".join(sorted({rank.host for rank in self._members}))
        function = waiting[0].open.arguments.function if waiting[0].open else None
        lacks = f"it has not called {function}, which {_listed(waiting)} wait in"
        if any(rank.open and rank.open.is_from_stack for rank in waiting):
            what = f"{function} since before the tool came (by their stacks; on which communicator is not known)"
            lacks = f"it was not seen, while {_listed(waiting)} are in {what}"
        text = f"{lacks}; seen are only hosts {hosts}"
        return replace(self._verdict(Kind.MISSING, since, waiting, 0, None), rank=number, evidence=text)

    def _all_stopped(self, waiting: Sequence[Rank], number: int, absent: Sequence[int]) -> Verdict:
        since = max(_waits_since(rank) for rank in waiting)
        call = waiting[0].open
        what = f"call {number}, {call.arguments}" if number and call else str(call.arguments if call else "")
        text = f"{_listed(waiting)} are in {what}, and none has returned"
        if call is not None and call.is_from_stack:
            text += " since the tool came (by their stacks; on which communicator is not known)"
        if absent:
            text += f"; of {_numbers(absent)} there are no records"
        return replace(self._verdict(Kind.ALL_STOPPED, since, waiting, number, None), evidence=text)

    def _verdict(
        self, kind: Kind, since_ns: int, waiting: Sequence[Rank], number: int | None, culprit: Rank | None
    ) -> Verdict:
        functions = Counter(rank.open.arguments.function for rank in waiting if rank.waits and rank.open)
        return Verdict(
            kind=kind,
            communicator=self._first.communicator or "",
            identity=self._first.identity,
            since_ns=since_ns,
            evidence="",
            number=number,
            function=functions.most_common(1)[0][0] if functions else None,
            waiting=tuple(rank.rank for rank in waiting if rank.rank is not None),
            nranks=self._nranks,
            rank=culprit.rank if culprit else None,
            culprit=culprit,
            job=next((rank.job.name for rank in self._members if rank.job), None),
        )

    # communicators that are older than the probes: calls have no numbers in common

    def _waited_for_since_some_time(self) -> Iterator[Verdict]:
        waiting = [rank for rank in self._members if rank.waits and not rank.ended]
        others = [rank for rank in self._members if rank not in waiting]
        if not waiting or not self._have_waited(waiting):
            return
        since = min(_waits_since(rank) for rank in waiting)
        absent = self._absent()
        if any(rank.open and rank.open.is_from_stack for rank in waiting):
            yield from self._waited_for_from_stacks(absent, since)
            return
        if not others:
            if self._nranks == len(waiting) or (self._nranks is None and len(waiting) > 1):
                yield replace(self._all_stopped(waiting, 0, ()), number=None)
            return
        for rank in others:
            if (rank.last_begin_ns or 0) < since and self._is_quiet(rank):
                yield replace(self._about(rank, waiting, 0), number=None, since_ns=since)

    def _waited_for_from_stacks(self, absent: Sequence[int], since: int) -> Iterator[Verdict]:
        """Verdicts where calls began before the probes: on which communicator is not known.

        So it may be that of the waiting ones alone. Only a few that are not in it, of many, are named, and only where
        their stacks were read.
        """
        functions = Counter(_function(rank) for rank in self._members if rank.waits)
        (function, _), *_ = functions.most_common(1)
        waiting = [rank for rank in self._members if rank.waits and _function(rank) == function]
        others = [rank for rank in self._members if rank not in waiting]
        if not all(rank.is_open_known or rank.open or rank.ended or rank.state in ("T", "t", "D") for rank in others):
            return
        if not others and not absent and self._nranks == len(waiting):
            yield replace(self._all_stopped(waiting, 0, ()), number=None)
        elif len(waiting) > len(others) + len(absent):
            for rank in others:
                if self._is_quiet(rank):
                    yield replace(self._about(rank, waiting, 0), number=None, since_ns=since)
            for number in absent:
                yield replace(self._not_seen(number, waiting), number=None)

    # calls that do not agree

    def _mismatches(self) -> Iterator[Verdict]:
        by_number: defaultdict[int, list[tuple[Rank, NumberedCall]]] = defaultdict(list)
        for rank in self._members:
            for call in rank.calls:
                by_number[call.number].append((rank, call))
        for number in sorted(by_number, reverse=True):
            made = by_number[number]
            kinds = Counter(call.arguments.comparable() for _, call in made)
            if len(kinds) > 1:
                yield from self._mismatch(number, made, kinds)
                return  # the last one

    def _mismatch(
        self, number: int, made: Sequence[tuple[Rank, NumberedCall]], kinds: Counter[Arguments]
    ) -> Iterator[Verdict]:
        (usual, most), (_, second) = kinds.most_common(2)
        since = max(call.begin_ns for _, call in made)
        alike = [rank for rank, call in made if call.arguments.comparable() == usual]
        if most == second:
            each = "; ".join(f"rank {known(rank.rank)}: {call.arguments}" for rank, call in made[:MOST_LISTED])
            text = f"call {number} differs, and no majority tells which is meant: {each}"
            yield replace(self._verdict(Kind.MISMATCH, since, [], number, None), evidence=text)
            return
        for rank, call in made:
            if call.arguments.comparable() != usual:
                text = f"its call {number} is {call.arguments}, that of {_listed(alike)} is {usual}"
                yield replace(self._verdict(Kind.MISMATCH, since, alike, number, rank), evidence=text)

    # ranks that come last

    def _late(self) -> Iterator[Verdict]:
        alive = [rank for rank in self._members if not rank.ended]
        limit = self._limits.late_ns
        if len(alive) < 2 or limit is None:
            return
        numbers = common(alive)
        for rank in alive:
            lateness = [behind(rank, alive, number) for number in numbers]
            run = len(lateness)
            while run and lateness[run - 1] > limit:
                run -= 1
            late = lateness[run:]
            if len(late) < LATE_CALLS:
                continue
            first = rank.call(numbers[run])
            others = [other for other in alive if other is not rank]
            clocks = "" if any(other.host == rank.host for other in others) else ", by the clocks of different hosts"
            text = (
                f"it began the last {len(late)} of {len(lateness)} calls that can be compared"
                f" {seconds(median(late))} after the others{clocks}"
            )
            since = first.begin_ns if first else self._now
            yield replace(self._verdict(Kind.LATE, since, others, numbers[-1], rank), evidence=text)


def _function(rank: Rank) -> str | None:
    return rank.open.arguments.function if rank.open else None


def _waits_since(rank: Rank) -> int:
    """When it began the call that it is in, or its last one."""
    if rank.waits and rank.open is not None:
        return rank.open.since_ns
    return rank.last_begin_ns or rank.quiet_since_ns


def _made_at(rank: Rank, number: int) -> int:
    """When it made a call, or else the next that is known."""
    call = rank.call(number)
    return call.begin_ns if call else _waits_since(rank)


def _lacks(culprit: Rank, number: int, waiting: Sequence[Rank]) -> str:
    earlier = next((rank.open for rank in waiting if rank.open and rank.open.is_from_stack), None)
    if earlier is not None:
        what = f"{earlier.arguments.function}, which {_listed(waiting)} are in since before the tool came"
        return f"it is not in {what} (by their stacks; on which communicator is not known)"
    made = [call for rank in waiting if (call := rank.call(number))]
    what = f"call {number}" if number else "the call"
    if made:
        what += f", {made[0].arguments},"
    do = "wait in" if all(rank.waits and rank.made == number for rank in waiting) else "have made"
    if culprit.made >= number and number:
        return f"{_listed(waiting)} {do} {what.rstrip(',')}"
    return f"it has not made {what} which {_listed(waiting)} {do}"


def _listed(ranks: Sequence[Rank]) -> str:
    numbers = [rank.rank for rank in ranks if rank.rank is not None]
    if len(numbers) != len(ranks):
        return f"{len(ranks)} other ranks"
    return _numbers(numbers)


def _numbers(numbers: Sequence[int]) -> str:
    some = ", ".join(map(str, sorted(numbers)[:MOST_LISTED]))
    more = f" and {len(numbers) - MOST_LISTED} more" if len(numbers) > MOST_LISTED else ""
    return f"rank{'s' if len(numbers) > 1 else ''} {some}{more}"


def known(number: int | None) -> str:
    """The number, or `?`."""
    return "?" if number is None else str(number)


def seconds(ns: int) -> str:
    """`200 ms`, `12.3 s`, `5 min`"""
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.0f} ms"
    return f"{ns / 1e9:.1f} s" if ns < 120_000_000_000 else f"{ns / 60e9:.0f} min"
