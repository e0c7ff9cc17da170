"""From what is known of NCCL's ranks to verdicts. No I/O, nothing of the kernel.

A verdict says what the evidence carries and no more: that a call was enqueued, or not, on the host. What the GPU has
done of it is not known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from xtrace.model.nccl_evidence import MOST_LISTED, known, listed, seconds
from xtrace.model.nccl_lateness import behind, common, median
from xtrace.model.nccl_ranks import Arguments, NumberedCall, Rank
from xtrace.model.nccl_verdicts import ORDER, Covered, Kind, Limits, Verdict
from xtrace.model.nccl_waits import Group

LATE_CALLS = 3
"""A rank is late that was so in as many of the calls last compared, one after the other."""


def judge(ranks: Iterable[Rank], limits: Limits, covered: Covered) -> list[Verdict]:
    """All verdicts, worst first. `covered`: where `ranks` were looked for."""
    groups: defaultdict[str, list[Rank]] = defaultdict(list)
    for rank in ranks:
        if rank.communicator is not None:
            groups[rank.communicator].append(rank)
    found = [verdict for members in groups.values() for verdict in _verdicts(Group(members, limits, covered))]
    return sorted(found, key=lambda verdict: (ORDER.index(verdict.kind), verdict.since_ns))


def _verdicts(group: Group) -> list[Verdict]:
    """What is wrong with the ranks of one communicator."""
    if not all(rank.is_whole for rank in group.members):
        return list(group.waited_for_since_some_time())
    found = [*_mismatches(group), *group.waited_for()]
    # a mismatch explains that all wait
    if any(one.kind is Kind.MISMATCH for one in found):
        found = [one for one in found if one.kind is not Kind.ALL_STOPPED]
    return found or list(_late(group))


def _mismatches(group: Group) -> Iterator[Verdict]:
    """Verdicts about the last call whose arguments do not agree."""
    by_number: defaultdict[int, list[tuple[Rank, NumberedCall]]] = defaultdict(list)
    for rank in group.members:
        for call in rank.calls:
            by_number[call.number].append((rank, call))
    for number in sorted(by_number, reverse=True):
        made = by_number[number]
        kinds = Counter(call.arguments.comparable() for _, call in made)
        if len(kinds) > 1:
            yield from _mismatch(group, number, made, kinds)
            return


def _mismatch(
    group: Group, number: int, made: Sequence[tuple[Rank, NumberedCall]], kinds: Counter[Arguments]
) -> Iterator[Verdict]:
    (usual, most), (_, second) = kinds.most_common(2)
    since = max(call.begin_ns for _, call in made)
    alike = [rank for rank, call in made if call.arguments.comparable() == usual]
    if most == second:
        each = "; ".join(f"rank {known(rank.rank)}: {call.arguments}" for rank, call in made[:MOST_LISTED])
        text = f"call {number} differs, and no majority tells which is meant: {each}"
        yield replace(group.verdict(Kind.MISMATCH, since, [], number, None), evidence=text)
        return
    for rank, call in made:
        if call.arguments.comparable() != usual:
            text = f"its call {number} is {call.arguments}, that of {listed(alike)} is {usual}"
            yield replace(group.verdict(Kind.MISMATCH, since, alike, number, rank), evidence=text)


def _late(group: Group) -> Iterator[Verdict]:
    """Verdicts about ranks that come last, by their host's clock: others' only where a host has one rank."""
    there = [rank for rank in group.members if rank.is_there]
    limit = group.limits.late_ns
    if len(there) < 2 or limit is None:
        return
    by_host: defaultdict[str, list[Rank]] = defaultdict(list)
    for rank in there:
        by_host[rank.host].append(rank)
    for rank in there:
        is_alone = len(by_host[rank.host]) == 1
        compared = there if is_alone else by_host[rank.host]
        numbers = common(compared)
        lateness = [behind(rank, compared, number) for number in numbers]
        run = len(lateness)
        while run and lateness[run - 1] > limit:
            run -= 1
        late = lateness[run:]
        if len(late) < LATE_CALLS:
            continue
        first = rank.call(numbers[run])
        others = [other for other in compared if other is not rank]
        whose = "the others, by the clocks of different hosts" if is_alone else "the others on its host"
        text = (
            f"it began the last {len(late)} of {len(lateness)} calls that can be compared"
            f" {seconds(median(late))} after {whose}"
        )
        since = first.begin_ns if first else rank.at_ns
        yield replace(group.verdict(Kind.LATE, since, others, numbers[-1], rank), evidence=text)
