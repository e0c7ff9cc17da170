"""How much later than the others ranks begin their calls. No I/O, nothing of the kernel."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from xtrace.model.nccl_ranks import Rank

LIMITS_NS = tuple(
    round(seconds * 1e9) for seconds in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
)
"""Upper limits of the classes, inclusive; one more class has what is later. A rank that comes first is in the first."""


class Comparison:
    """Compares ranks from interval to interval, each call once."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """the last call that was compared, by communicator"""

    def of(self, ranks: Sequence[Rank]) -> tuple[Rank, ...]:
        """The same ranks, with the lateness of those that have calls in common which were not compared yet."""
        groups: defaultdict[str, list[Rank]] = defaultdict(list)
        for rank in ranks:
            if rank.communicator is not None and rank.is_whole and rank.is_there:
                groups[rank.communicator].append(rank)
        found: dict[tuple[int, int | None], list[int]] = {}
        for name, members in groups.items():
            numbers = [number for number in common(members) if number > self._last.get(name, 0)]
            if len(members) > 1 and numbers:
                self._last[name] = numbers[-1]
                for rank in members:
                    found[rank.pid, rank.address] = counts(behind(rank, members, number) for number in numbers)
        self._last = {name: number for name, number in self._last.items() if name in groups}
        return tuple(replace(rank, lateness=tuple(found.get((rank.pid, rank.address), ()))) for rank in ranks)


def common(ranks: Iterable[Rank]) -> list[int]:
    """Numbers of the calls that are known of all these ranks."""
    return sorted(set.intersection(*({call.number for call in rank.calls} for rank in ranks)))


def behind(rank: Rank, ranks: Sequence[Rank], number: int) -> int:
    """By how many ns a rank began a call after the others of these, by their median."""
    own = rank.call(number)
    times = [call.begin_ns for other in ranks if other is not rank and (call := other.call(number))]
    return own.begin_ns - median(times) if own and times else 0


def counts(lateness: Iterator[int]) -> list[int]:
    """How many of these are in each class."""
    found = [0] * (len(LIMITS_NS) + 1)
    for ns in lateness:
        found[bisect_left(LIMITS_NS, ns)] += 1
    return found


def median(values: Sequence[int]) -> int:
    """Return the middle value, or the mean of the middle two; statistics.median() imports decimal and fractions."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2
