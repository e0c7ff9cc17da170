"""Rates of the last minutes, of a bounded number of things."""

from __future__ import annotations

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


class History(Generic[Key]):
    """Bytes per point, by key; all keys share the points. A key without bytes in an interval carried none in it."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=POINTS)
        self._begun = 0
        """points, those that are no longer kept too"""
        self._bytes: dict[Key, dict[int, int]] = {}
        """by key and number of the point; keys in the order in which they were last among the largest"""

    def __iter__(self) -> Iterator[Key]:
        return iter(self._bytes)

    def begin(self, seconds: float) -> None:
        """Begin an interval of this length: what is added from now on is of it."""
        if self._seconds and self._seconds[-1] < SHORTEST_S:
            self._seconds[-1] += seconds
            return
        self._seconds.append(seconds)
        self._begun += 1
        gone = self._begun - POINTS
        for key in [key for key, points in self._bytes.items() if points.pop(gone, None) is not None and not points]:
            del self._bytes[key]

    def add(self, key: Key, size: int, is_large: bool = True) -> None:
        """Add bytes of the interval. A key that is not kept yet is from now on, in the place of another if need be."""
        points = self._bytes.pop(key, {}) if is_large else self._bytes.get(key)
        if points is None:
            return
        points[self._begun] = points.get(self._begun, 0) + size
        if is_large:
            self._bytes[key] = points
            if len(self._bytes) > MOST_KEYS:
                del self._bytes[next(iter(self._bytes))]

    def rates(self, key: Key) -> Sequence[float]:
        """Return bytes per second of each point, oldest first, from the first one of this key on."""
        points = self._bytes.get(key)
        if not points:
            return ()
        first = self._begun - len(self._seconds) + 1
        begin = max(first, min(points))
        seconds = list(self._seconds)
        return [points.get(number, 0) / seconds[number - first] for number in range(begin, self._begun + 1)]

    def span_s(self, points: int) -> float:
        """Return how long the last `points` took together."""
        return sum(list(self._seconds)[-points:])
