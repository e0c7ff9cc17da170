"""Follow series from their first sample to their end, for the formats that mark it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from xtrace.sinks.metrics.sample import Interval, Labels, Life, Metric, Sample

Point = tuple[int, "float | None"]
"""Milliseconds since the epoch and value; None marks the end of the series."""
Rendered = TypeVar("Rendered")


class Followed(Generic[Rendered]):
    """All series with one set of labels."""

    __slots__ = ("began_ms", "labels", "last_ms", "rendered", "tick")

    def __init__(self, labels: Labels, rendered: Rendered) -> None:
        self.labels = labels
        """kept, so that id(labels) stays unique"""
        self.rendered = rendered
        """what a Message makes of the labels"""
        self.last_ms: dict[str, int] = {}
        """time of the last sample by metric"""
        self.began_ms: dict[str, int] = {}
        """when a counter was 0, by metric; unknown for one that is absent"""
        self.tick = -1
        """the last one with a sample"""


class Message(Protocol[Rendered]):
    """A request that is being written."""

    def render(self, labels: Labels) -> Rendered:
        """Return what all series with these labels share."""

    def describe(self, described: Mapping[str, Metric]) -> None:
        """Take note of metrics."""

    def write(self, series: Followed[Rendered], name: str, points: Sequence[Point]) -> None:
        """Add points, in order, to one series."""

    def finish(self) -> bytes:
        """Return the request and begin another."""


class Following(Generic[Rendered]):
    """Writes a tick's samples into a Message. A series that ends gets a mark 1 ms after its last sample."""

    def __init__(self, message: Message[Rendered]) -> None:
        self._message = message
        self._staying: dict[int, Followed[Rendered]] = {}
        """series that stay while they are idle, by id(labels)"""
        self._each: dict[Labels, Followed[Rendered]] = {}
        """the others"""
        self._count = self._tick = 0
        """samples in this request; requests before it"""
        self._ends_ms: set[int] = set()
        """of the intervals in this request"""

    def add(self, samples: Iterable[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Add samples of one interval."""
        self._message.describe(described)
        start_ms, end_ms = interval
        self._ends_ms.add(end_ms)
        for labels, values, before, life in samples:
            if life is Life.ENDS:
                ended = self._staying.pop(id(labels), None)
                if ended is not None:
                    self._mark_ended(ended, ended.last_ms)
                continue
            series = self._find(labels, life)
            series.tick = self._tick
            for name, value in values.items():
                points: tuple[Point, ...] = ((end_ms, value),)
                if before is not None and name in before:
                    points = ((start_ms, before[name]), *points)
                    if before[name] == 0:
                        series.began_ms[name] = start_ms
                self._write(series, name, points)
                series.last_ms[name] = end_ms

    def _find(self, labels: Labels, life: Life) -> Followed[Rendered]:
        if life is Life.STAYS:
            found = self._staying.get(id(labels))
            if found is None:
                found = self._staying[id(labels)] = Followed(labels, self._message.render(labels))
            return found
        found = self._each.get(labels)
        if found is None:
            found = self._each[labels] = Followed(labels, self._message.render(labels))
        return found

    def _write(self, series: Followed[Rendered], name: str, points: Sequence[Point]) -> None:
        self._message.write(series, name, points)
        self._count += len(points)

    def _mark_ended(self, series: Followed[Rendered], names: Iterable[str]) -> None:
        for name in names:
            self._write(series, name, ((series.last_ms[name] + 1, None),))

    def __len__(self) -> int:
        return self._count

    def body(self) -> bytes:
        """Return the request and start over. Series with a sample in the last tick but not in this have ended."""
        for labels, series in list(self._each.items()):
            if series.tick != self._tick:
                self._mark_ended(self._each.pop(labels), series.last_ms)
                continue
            ended = [name for name, last_ms in series.last_ms.items() if last_ms not in self._ends_ms]
            self._mark_ended(series, ended)
            for name in ended:
                del series.last_ms[name]
                series.began_ms.pop(name, None)
        return self._finished()

    def last_body(self) -> bytes:
        """Return a request that marks the end of all series; b"" if there are none."""
        if not self._staying and not self._each:
            return b""
        for series in (*self._staying.values(), *self._each.values()):
            self._mark_ended(series, series.last_ms)
        self._staying.clear()
        self._each.clear()
        return self._finished()

    def _replace(self, message: Message[Rendered]) -> None:
        """Write another kind of message from now on; nothing was added since the last."""
        self._message = message
        for series in (*self._staying.values(), *self._each.values()):
            series.rendered = message.render(series.labels)

    def _finished(self) -> bytes:
        self._ends_ms.clear()
        self._count = 0
        self._tick += 1
        return self._message.finish()
