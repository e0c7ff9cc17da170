"""Sums in bounded memory: the largest of many keys, and rates over time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from heapq import nlargest
from math import inf
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

MOST_KEYS = 10_000
"""Keys of one table; beyond, the smaller half is folded into one sum."""
MOST_BINS = 360
"""Points of a series; beyond, two neighbors become one."""


class Count(NamedTuple):
    """Packets and bytes, or calls and bytes."""

    packets: int = 0
    bytes: int = 0

    def plus(self, packets: int, size: int) -> Count:
        """Return the sum."""
        return Count(self.packets + packets, self.bytes + size)


NOTHING = Count()


class Largest(Generic[Key]):
    """Counts by key. All keys and `folded` always add up to everything that was added."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._counts: dict[Key, Count] = {}
        self.folded = NOTHING
        self.folded_keys = 0
        """how often a key was folded: at least as many as there were different ones"""
        self.doubt = 0
        """bytes that the count of a key may lack at most, as it was folded before"""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: Key, packets: int, size: int) -> None:
        """Add to a key's count."""
        self._counts[key] = self._counts.get(key, NOTHING).plus(packets, size)
        if len(self._counts) > self._most:
            self._fold()

    def _fold(self) -> None:
        kept = dict(nlargest(self._most // 2, self._counts.items(), key=_size))
        for key, count in self._counts.items():
            if key not in kept:
                self.folded = self.folded.plus(*count)
        self.folded_keys += len(self._counts) - len(kept)
        self.doubt += max(count.bytes for key, count in self._counts.items() if key not in kept)
        self._counts = kept

    def top(self, number: int) -> tuple[list[tuple[Key, Count]], Count]:
        """Return the largest counts, by bytes, and the sum of all others."""
        chosen = nlargest(number, self._counts.items(), key=_size)
        shown = [sum(column) for column in zip(*(count for _, count in chosen), strict=True)] or [0, 0]
        total = self.total()
        return chosen, Count(total.packets - shown[0], total.bytes - shown[1])

    def total(self) -> Count:
        """Return the sum of everything added."""
        total = self.folded
        for count in self._counts.values():
            total = total.plus(*count)
        return total


def _size(item: tuple[object, Count]) -> tuple[int, int]:
    return item[1].bytes, item[1].packets


class Point(NamedTuple):
    """One bin of a series: its middle in seconds since the epoch, and the mean per second of what it covers."""

    at: float
    rate: float


class Series:
    """Amounts over time. A bin is as long as an interval at the beginning, and doubles when there are too many."""

    def __init__(self, most: int = MOST_BINS) -> None:
        self._most = most
        self.width_s = 0.0
        self._middle_s = 0.0
        """of the first interval"""
        self.begin_s, self.end_s = inf, -inf
        """of all that was added, in seconds since the epoch"""
        self._bins: dict[int, tuple[int, float]] = {}
        """amount and seconds covered"""

    def add(self, end_s: float, seconds: float, amount: int) -> None:
        """Add the amount of an interval that ended at `end_s`."""
        if seconds <= 0:
            return
        self.begin_s, self.end_s = min(self.begin_s, end_s - seconds), max(self.end_s, end_s)
        middle_s = end_s - seconds / 2
        if not self._bins:
            self.width_s, self._middle_s = seconds, middle_s
        elif len(self._bins) == 1 and seconds < self.width_s:  # the first interval was a long one
            (first,) = self._bins.values()
            self.width_s = seconds
            self._bins = {int(self._middle_s // seconds): first}
        self._put(int(middle_s // self.width_s), amount, seconds)
        while max(self._bins) - min(self._bins) >= self._most:
            self.width_s *= 2
            bins, self._bins = self._bins, {}
            for index, (sum_, covered) in bins.items():
                self._put(index // 2, sum_, covered)

    def _put(self, index: int, amount: int, seconds: float) -> None:
        sum_, covered = self._bins.get(index, (0, 0.0))
        self._bins[index] = (sum_ + amount, covered + seconds)

    def runs(self) -> Iterator[list[Point]]:
        """Yield points in order, in runs without a gap: a pause is no line at zero."""
        run: list[Point] = []
        before = None
        for index in sorted(self._bins):
            if before is not None and index > before + 2:  # an interval may be longer than usual
                yield run
                run = []
            amount, covered = self._bins[index]
            run.append(Point((index + 0.5) * self.width_s, amount / covered))
            before = index
        if run:
            yield run

    def peak(self) -> float:
        """Return the highest rate of a bin."""
        return max((amount / covered for amount, covered in self._bins.values()), default=0.0)
