"""Which rank of a communicator the others wait for, if they wait. No I/O, nothing of the kernel.

How long something lasts is told by the clock of its own host, up to when that host told of it last: neither clocks that
differ nor hosts that are read at different moments make a rank look stuck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from xtrace.model.nccl_evidence import is_alone, lacks, listed, numbers, unmatched, whereabouts
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_verdicts import Covered, Kind, Limits, Verdict

ENDS = frozenset(("CommFinalize", "CommDestroy", "CommAbort"))
"""Functions that end a communicator."""


class Group:
    """The ranks of one communicator."""

    def __init__(self, members: Sequence[Rank], limits: Limits, covered: Covered) -> None:
        self.members = sorted(members, key=lambda rank: (rank.rank is None, rank.rank or 0, rank.host, rank.pid))
        self.limits = limits
        self._covered = covered
        self._nranks = max((rank.nranks for rank in members if rank.nranks), default=None)

    def verdict(
        self, kind: Kind, since_ns: int, waiting: Sequence[Rank], number: int | None, culprit: Rank | None
    ) -> Verdict:
        """A verdict about them, as yet without its evidence."""
        functions = Counter(rank.open.arguments.function for rank in waiting if rank.waits and rank.open)
        first = self.members[0]
        return Verdict(
            kind=kind,
            communicator=first.communicator or "",
            identity=first.identity,
            since_ns=since_ns,
            evidence="",
            number=number,
            function=functions.most_common(1)[0][0] if functions else None,
            waiting=tuple(rank.rank for rank in waiting if rank.rank is not None),
            nranks=self._nranks,
            rank=culprit.rank if culprit else None,
            culprit=culprit,
            job=next((rank.job.name for rank in self.members if rank.job), None),
        )

    # calls that have the same number on all ranks

    def waited_for(self) -> Iterator[Verdict]:
        """Verdicts where calls have the same number on all ranks."""
        members = self.members
        absent = self._absent()
        frontier = max(rank.made for rank in members)
        least = min(rank.made for rank in members)
        if least < frontier:
            behind = [rank for rank in members if rank.made == least]
            waiting = [rank for rank in members if rank.made > least]
            if self._have_waited(waiting) and all(map(self._is_quiet, behind)):
                yield from (self._about(rank, waiting, least + 1) for rank in behind)
            return
        lost = [rank for rank in members if not rank.is_there or rank.state in ("T", "t")]
        waiting = [rank for rank in members if rank not in lost]
        if not waiting or not all(rank.waits for rank in waiting) or not self._have_waited(waiting):
            return
        if lost:
            # who still ends the communicator does not wait for one that has done so
            is_ending = any(_function(rank) in ENDS for rank in waiting)
            yield from (self._about(rank, waiting, frontier) for rank in lost if not (is_ending and rank.left))
        elif absent and frontier == 0 and self._covered is Covered.ALL_HOSTS:
            yield from (self._not_seen(rank, waiting) for rank in absent)
        elif self._nranks is None or len(members) == self._nranks or self._covered is not Covered.ONE_HOST:
            yield self._all_stopped(waiting, frontier, absent)

    def _absent(self) -> list[int]:
        """Ranks that were not seen, if they could have been."""
        if self._covered is Covered.ONE_HOST or self._nranks is None:
            return []
        return sorted(set(range(self._nranks)) - {rank.rank for rank in self.members if rank.rank is not None})

    def _have_waited(self, waiting: Sequence[Rank]) -> bool:
        """Whether nobody of them went on for so long that it counts as hanging."""
        there = [rank for rank in waiting if rank.is_there]
        return bool(there) and all(self._lasts(rank, _waits_since(rank)) for rank in there)

    def _lasts(self, rank: Rank, since_ns: int) -> bool:
        limit = self.limits.hang_ns
        return limit is not None and rank.at_ns - since_ns >= limit

    def _is_quiet(self, rank: Rank) -> bool:
        return not rank.is_there or self._lasts(rank, rank.quiet_since_ns)

    def _about(self, culprit: Rank, waiting: Sequence[Rank], number: int) -> Verdict:
        """The verdict about a rank that others wait for in call `number`."""
        since = min(_made_at(rank, number) for rank in waiting)
        base = self.verdict(Kind.MISSING, since, waiting, number, culprit)
        what = lacks(culprit, number, waiting)
        if culprit.ended:
            how = culprit.exit or "how is not known"
            return replace(base, kind=Kind.GONE, evidence=f"its process has ended ({how}); {what}")
        if culprit.state in ("T", "t"):
            return replace(base, kind=Kind.STOPPED, evidence=f"its process is stopped (state {culprit.state}); {what}")
        if culprit.state == "D" and (culprit.open or is_alone(culprit, self.members)):
            return replace(base, kind=Kind.STOPPED, evidence=f"it is in uninterruptible sleep (state D); {what}")
        sent = unmatched(culprit, self.members)
        if sent:
            peer, evidence = sent
            return replace(base, kind=Kind.OPEN_SEND, peer=peer, evidence=f"{evidence}; {what}")
        return replace(base, evidence=f"{what}; {whereabouts(culprit, self.members)}")

    def _not_seen(self, number: int, waiting: Sequence[Rank]) -> Verdict:
        since = min(_waits_since(rank) for rank in waiting)
        hosts = ", ".join(sorted({rank.host for rank in self.members}))
        function = waiting[0].open.arguments.function if waiting[0].open else None
        what = f"it has not called {function}, which {listed(waiting)} wait in"
        if any(rank.open and rank.open.is_from_stack for rank in waiting):
            call = f"{function} since before the tool came (by their stacks; on which communicator is not known)"
            what = f"it was not seen, while {listed(waiting)} are in {call}"
        text = f"{what}; seen are only hosts {hosts}"
        return replace(self.verdict(Kind.MISSING, since, waiting, 0, None), rank=number, evidence=text)

    def _all_stopped(self, waiting: Sequence[Rank], number: int, absent: Sequence[int]) -> Verdict:
        since = max(_waits_since(rank) for rank in waiting)
        call = waiting[0].open
        what = f"call {number}, {call.arguments}" if number and call else str(call.arguments if call else "")
        text = f"{listed(waiting)} are in {what}, and none has returned"
        if call is not None and call.is_from_stack:
            text += " since the tool came (by their stacks; on which communicator is not known)"
        if absent:
            text += f"; of {numbers(absent)} there are no records"
            text += " that go so far" if self._covered is Covered.IN_PART else ""
        return replace(self.verdict(Kind.ALL_STOPPED, since, waiting, number, None), evidence=text)

    # communicators that are older than the probes: calls have no numbers in common

    def waited_for_since_some_time(self) -> Iterator[Verdict]:
        """Verdicts where calls have no numbers in common, because the communicator is older than the probes."""
        waiting = [rank for rank in self.members if rank.waits and rank.is_there]
        others = [rank for rank in self.members if rank not in waiting]
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
        functions = Counter(_function(rank) for rank in self.members if rank.waits)
        (function, _), *_ = functions.most_common(1)
        waiting = [rank for rank in self.members if rank.waits and _function(rank) == function]
        others = [rank for rank in self.members if rank not in waiting]
        if not all(rank.is_open_known or rank.open or rank.ended or rank.state in ("T", "t", "D") for rank in others):
            return
        if not others and not absent and self._nranks == len(waiting):
            yield replace(self._all_stopped(waiting, 0, ()), number=None)
        elif len(waiting) > len(others) + len(absent):
            for rank in others:
                if self._is_quiet(rank):
                    yield replace(self._about(rank, waiting, 0), number=None, since_ns=since)
            if self._covered is Covered.ALL_HOSTS:
                yield from (replace(self._not_seen(number, waiting), number=None) for number in absent)


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
