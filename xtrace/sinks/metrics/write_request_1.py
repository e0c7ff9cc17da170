"""The message of remote write 1.0.

https://github.com/prometheus/prometheus/blob/main/prompb/types.proto

    WriteRequest { repeated TimeSeries timeseries = 1; }
    TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
    Label { string name = 1; string value = 2; }
    Sample { double value = 1; int64 timestamp = 2; }
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from struct import Struct

from xtrace.sinks.metrics.following import Followed, Point
from xtrace.sinks.metrics.pieces import NAME, Piece
from xtrace.sinks.metrics.protobuf import field, fields, varint
from xtrace.sinks.metrics.sample import Labels, Metric
from xtrace.sinks.render import valid_unicode

_DOUBLE = Struct("<d")
STALE = (0x7FF0000000000002).to_bytes(8, "little")
"""The NaN that marks the end of a series."""

_SERIES = b"\x0a"
_SAMPLES = b"\x12"
_VALUE, _TIME = b"\x09", b"\x10"


def merged(labels: Labels, constant: Labels) -> tuple[tuple[str, str], ...]:
    """Return labels and those that all series have, which they override, by name; without those that are empty."""
    own = {name for name, _ in labels}
    both = (*labels, *(each for each in constant if each[0] not in own))
    return tuple(sorted((name, valid_unicode(value)) for name, value in both if value))


def label(name: str, value: str) -> bytes:
    """Return a Label as a field of a TimeSeries."""
    return field(1, field(1, name.encode()) + field(2, value.encode()))


@lru_cache(maxsize=64)
def _time(at_ms: int) -> tuple[bytes, bytes]:
    """Return a Sample as a field of a TimeSeries, up to its value and after it."""
    after = _TIME + varint(at_ms)
    return _SAMPLES + varint(len(_VALUE) + _DOUBLE.size + len(after)) + _VALUE, after


def sample(at_ms: int, value: bytes) -> bytes:
    """Return a Sample as a field of a TimeSeries, from the 8 bytes of its value."""
    before, after = _time(at_ms)
    return before + value + after


def packed(value: float | None) -> bytes:
    """Return the 8 bytes of a value; None marks the end of a series."""
    return STALE if value is None else _DOUBLE.pack(value)


class WriteRequest:
    """A Message in which each series has all its labels. Rendered: the Label fields before and after the name."""

    def __init__(self, constant: Labels) -> None:
        self._constant = constant
        self._names: dict[str, bytes] = {}
        """Label fields of metrics"""
        self._parts: list[bytes] = []

    def render(self, labels: Labels) -> tuple[bytes, bytes]:
        """Return the Label fields before and after the one of the metric's name: they are in order."""
        known = merged(labels, self._constant)
        before = b"".join(label(*each) for each in known if each[0] < NAME)
        return before, b"".join(label(*each) for each in known if each[0] > NAME)

    def describe(self, described: Mapping[str, Metric]) -> None:
        """Take no note: samples are all that 1.0 has."""

    def write(self, series: Followed[tuple[bytes, bytes]], name: str, points: Sequence[Point]) -> None:
        """Add a TimeSeries."""
        before, after = series.rendered
        own = self._names.get(name) or self._names.setdefault(name, label(NAME, name))
        samples = b"".join([sample(at_ms, packed(value)) for at_ms, value in points])
        size = len(before) + len(own) + len(after) + len(samples)
        self._parts += (_SERIES + varint(size), before, own, after, samples)

    def finish(self) -> bytes:
        """Return the WriteRequest."""
        body = b"".join(self._parts)
        self._parts.clear()
        return body


def of_series(series: Iterable[tuple[Labels, Sequence[tuple[int, bytes]]]]) -> bytes:
    """Return a WriteRequest of series with all their labels, and times and packed values of their samples."""
    return b"".join(
        field(1, b"".join([*(label(*each) for each in labels), *(sample(*each) for each in samples)]))
        for labels, samples in series
    )


def pieces(body: bytes) -> Iterator[Piece]:
    """Yield the samples of a WriteRequest that this module has written."""
    for _, series in fields(body):
        assert isinstance(series, bytes)
        parts = [(number, value) for number, value in fields(series) if isinstance(value, bytes)]
        labels = [_label(value) for number, value in parts if number == 1]
        named = b"".join(field(1, value) for number, value in parts if number == 1)
        for number, value in parts:
            if number == 2:
                yield Piece(labels, _time_of(value), field(1, named + field(2, value)))


def _label(message: bytes) -> tuple[str, str]:
    name, value = (text for _, text in fields(message))
    assert isinstance(name, bytes) and isinstance(value, bytes)
    return name.decode(), value.decode()


def _time_of(message: bytes) -> int:
    at_ms = dict(fields(message))[2]
    assert isinstance(at_ms, int)
    return at_ms
