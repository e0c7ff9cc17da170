"""Prometheus remote write 1.0: a WriteRequest in protobuf, in a block of snappy.

https://prometheus.io/docs/specs/prw/remote_write_spec/
https://github.com/prometheus/prometheus/blob/main/prompb/types.proto

    WriteRequest { repeated TimeSeries timeseries = 1; }
    TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
    Label { string name = 1; string value = 2; }
    Sample { double value = 1; int64 timestamp = 2; }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct

from xtrace.sinks.metrics.sample import Interval, Labels, Life, Metric, Sample
from xtrace.sinks.metrics.snappy import compressor, varint
from xtrace.sinks.render import valid_unicode

NAME = "__name__"
_DOUBLE = Struct("<d")
STALE = (0x7FF0000000000002).to_bytes(8, "little")
"""The NaN that marks the end of a series."""

_LABELS, _SAMPLES = b"\x0a", b"\x12"
_SERIES = b"\x0a"
_FIRST, _SECOND = b"\x0a", b"\x12"
_VALUE, _TIME = b"\x09", b"\x10"


def label(name: str, value: str) -> bytes:
    """Return a Label as a field of a TimeSeries."""
    encoded, text = name.encode(), valid_unicode(value).encode()
    body = b"".join((_FIRST, varint(len(encoded)), encoded, _SECOND, varint(len(text)), text))
    return _LABELS + varint(len(body)) + body


class _Series:
    """All series with one set of labels: the Label fields before and after the metric's name, and their last times."""

    __slots__ = ("after", "before", "labels", "last_ms", "tick")

    def __init__(self, labels: Labels, constant: Labels) -> None:
        own = {name for name, _ in labels}
        merged = sorted((*labels, *(each for each in constant if each[0] not in own)))
        self.labels = labels
        """kept, so that id(labels) stays unique"""
        self.before = b"".join(label(name, value) for name, value in merged if value and name < NAME)
        self.after = b"".join(label(name, value) for name, value in merged if value and name > NAME)
        self.last_ms: dict[str, int] = {}
        """time of the last sample by metric"""
        self.tick = -1
        """the last one with a sample"""


class RemoteWrite:
    """A WriteRequest per tick as an Encoding. A series that ends gets a stale marker 1 ms after its last sample.

    `constant` labels are added to every series; a label of the same name in the sample overrides them.
    """

    form = "remote-write"
    headers: Mapping[str, str] = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }

    def __init__(self, constant: Labels) -> None:
        self._constant = constant
        self._compress = compressor()
        self._names: dict[str, bytes] = {}
        """Label fields of metrics"""
        self._staying: dict[int, _Series] = {}
        """series that stay while they are idle, by id(labels)"""
        self._each: dict[Labels, _Series] = {}
        """the others"""
        self._parts: list[bytes] = []
        self._count = self._tick = 0
        """samples in this body; bodies before it"""
        self._ends_ms: set[int] = set()
        """of the intervals in this body"""

    def add(self, samples: Iterable[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Add samples of one interval."""
        for name in described.keys() - self._names.keys():
            self._names[name] = label(NAME, name)
        self._ends_ms.add(interval.end_ms)
        start, end = (_Point(ms) for ms in interval)
        for labels, values, before, life in samples:
            if life is Life.ENDS:
                ended = self._staying.pop(id(labels), None)
                if ended is not None:
                    self._mark_ended(ended, ended.last_ms)
                continue
            series = self._find(labels, life)
            series.tick = self._tick
            for name, value in values.items():
                point = end.encoded(value)
                if before is not None and name in before:
                    point = start.encoded(before[name]) + point
                    self._count += 1
                self._write(series, name, point)
                series.last_ms[name] = interval.end_ms

    def _find(self, labels: Labels, life: Life) -> _Series:
        if life is Life.STAYS:
            found = self._staying.get(id(labels))
            if found is None:
                found = self._staying[id(labels)] = _Series(labels, self._constant)
            return found
        found = self._each.get(labels)
        if found is None:
            found = self._each[labels] = _Series(labels, self._constant)
        return found

    def _write(self, series: _Series, name: str, points: bytes) -> None:
        """Add a TimeSeries."""
        own = self._names[name]
        size = len(series.before) + len(own) + len(series.after) + len(points)
        self._parts += (_SERIES + varint(size), series.before, own, series.after, points)
        self._count += 1

    def _mark_ended(self, series: _Series, names: Iterable[str]) -> None:
        for name in names:
            self._write(series, name, _Point(series.last_ms[name] + 1).packed(STALE))

    def __len__(self) -> int:
        return self._count

    def body(self) -> bytes:
        """Return the WriteRequest and start over. Series with a sample in the last tick but not in this have ended."""
        for labels, series in list(self._each.items()):
            if series.tick != self._tick:
                self._mark_ended(self._each.pop(labels), series.last_ms)
                continue
            ended = [name for name, last_ms in series.last_ms.items() if last_ms not in self._ends_ms]
            self._mark_ended(series, ended)
            for name in ended:
                del series.last_ms[name]
        return self._finished()

    def last_body(self) -> bytes:
        """Return a WriteRequest that marks the end of all series; b"" if there are none."""
        for series in (*self._staying.values(), *self._each.values()):
            self._mark_ended(series, series.last_ms)
        self._staying.clear()
        self._each.clear()
        return self._finished()

    def _finished(self) -> bytes:
        body = b"".join(self._parts)
        self._parts.clear()
        self._ends_ms.clear()
        self._count = 0
        self._tick += 1
        return body

    def compress(self, body: bytes) -> bytes:
        """Return a block of snappy."""
        return self._compress(body)


class _Point:
    """A Sample as a field of a TimeSeries, but for its value."""

    def __init__(self, at_ms: int) -> None:
        self._after = _TIME + varint(at_ms)
        self._before = _SAMPLES + varint(len(_VALUE) + _DOUBLE.size + len(self._after)) + _VALUE

    def encoded(self, value: float) -> bytes:
        """Return the field with a value."""
        return self._before + _DOUBLE.pack(value) + self._after

    def packed(self, value: bytes) -> bytes:
        """Return the field with the 8 bytes of a value."""
        return self._before + value + self._after
