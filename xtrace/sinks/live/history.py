"""Rates of the last minutes, of a bounded number of things."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

POINTS = 300
"""Kept of each thing."""
SHORTEST_S = 1.0
"""What a point covers at least: shorter intervals share one."""
MOST_KEYS = 1024
"""Things with a history. Of more, those that were noted as one of the largest last."""


class _Kept:
    """The bytes of one thing in successive points, of which the last ones are kept."""

    def __init__(self, number: int) -> None:
        self.first = number
        """the number of the first point"""
        self.sizes = array("Q")

    def add(self, number: int, size: int) -> None:
        missing = number - self.first - len(self.sizes) + 1
        self.sizes.extend((0,) * missing)
        self.sizes[number - self.first] += size
        if len(self.sizes) >= 2 * POINTS:
            self.first += POINTS
            del self.sizes[:POINTS]

    @property
    def last(self) -> int:
        """The number of the last point with anything in it."""
        return self.first + len(self.sizes) - 1

    def since(self, first: int, last: int) -> list[int]:
        """Return the bytes of these points, from the first one that there is."""
        begin = max(first - self.first, 0)
        return [*self.sizes[begin:], *(0,) * (last - max(self.last, first - 1))]


class History(Generic[Key]):
    """Bytes per point, by key; all keys share the points. A key without bytes in an interval carried none in it."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=POINTS)
        self._begun = 0
        """points, those that are no longer kept too"""
        self._kept: dict[Key, _Kept] = {}
        """in the order in which keys were last among the largest"""

    def __iter__(self) -> Iterator[Key]:
        return iter(self._kept)

    def begin(self, seconds: float) -> None:
        """Begin an interval of this length: what is added from now on is of it."""
        if self._seconds and self._seconds[-1] < SHORTEST_S:
            self._seconds[-1] += seconds
            return
        self._seconds.append(seconds)
        self._begun += 1
        for key in [key for key, kept in self._kept.items() if kept.last <= self._begun - POINTS]:
            del self._kept[key]

    def add(self, key: Key, size: int, is_large: bool = True) -> None:
        """Add bytes of the interval. A key that is not kept yet is from now on, in the place of another if need be."""
        kept = self._kept.get(key)
        if is_large:
            self._kept.pop(key, None)
            kept = self._kept[key] = kept or _Kept(self._begun)
            if len(self._kept) > MOST_KEYS:
                del self._kept[next(iter(self._kept))]
        if kept is not None:
            kept.add(self._begun, size)

    def rates(self, key: Key) -> Sequence[float]:
        """Return bytes per second of each point, oldest first, from the first one of this key on."""
        kept = self._kept.get(key)
        if kept is None:
            return ()
        sizes = kept.since(self._begun - len(self._seconds) + 1, self._begun)
        return [size / seconds for size, seconds in zip(sizes, list(self._seconds)[-len(sizes) :], strict=True)]

    def span_s(self, points: int) -> float:
        """Return how long the last `points` took together."""
        return sum(list(self._seconds)[-points:]) if points else 0.0
