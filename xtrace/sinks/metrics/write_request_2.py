"""The message of remote write 2.0.

https://github.com/prometheus/prometheus/blob/main/prompb/io/prometheus/write/v2/types.proto

    Request { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
    TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2; Metadata metadata = 5; }
    Sample { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3; }
    Metadata { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }

Texts are numbers of `symbols`, the first of which is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from xtrace.sinks.metrics.following import Followed, Point
from xtrace.sinks.metrics.pieces import NAME
from xtrace.sinks.metrics.protobuf import VARINT, field, fields, read_varint, tag, varint
from xtrace.sinks.metrics.sample import Labels, Metric
from xtrace.sinks.metrics.write_request_1 import merged, packed

FIRST_BYTE = tag(4, 2)[0]
"""of any request, and of none of version 1.0"""
_KINDS = {"counter": 1, "gauge": 2}
_SERIES, _REFERENCES, _SAMPLES = (tag(number, 2) for number in (5, 1, 2))
_VALUE, _TIME, _START = tag(1, 1), tag(2, VARINT), tag(3, VARINT)


class Texts(NamedTuple):
    """Names and values of labels by turns, before and after the name of the metric."""

    before: tuple[str, ...]
    after: tuple[str, ...]


class Request:
    """A Message in which each text occurs once."""

    def __init__(self, constant: Labels) -> None:
        self._constant = constant
        self._described: dict[str, Metric] = {}
        self._begin()

    def _begin(self) -> None:
        self._symbols: dict[str, int] = {"": 0}
        self._metadata: dict[str, bytes] = {}
        self._references: dict[int, tuple[Texts, bytes, bytes]] = {}
        """by id(Texts), which is unique while they are kept here"""
        self._parts: list[bytes] = []

    def render(self, labels: Labels) -> Texts:
        """Return the texts in order."""
        known = merged(labels, self._constant)
        before = tuple(text for each in known if each[0] < NAME for text in each)
        return Texts(before, tuple(text for each in known if each[0] > NAME for text in each))

    def describe(self, described: Mapping[str, Metric]) -> None:
        """Take note of metrics."""
        self._described.update(described)

    def write(self, series: Followed[Texts], name: str, points: Sequence[Point]) -> None:
        """Add a TimeSeries."""
        _, before, after = self._refer_to(series.rendered)
        metadata = self._metadata.get(name) or self._describe(name)
        references = before + self._refer((NAME, name)) + after
        start_ms = series.began_ms.get(name)
        start = _START + varint(start_ms) if start_ms else b""
        parts = [_REFERENCES + varint(len(references)), references]
        for at_ms, value in points:
            after_value = _TIME + varint(at_ms) + (b"" if value is None else start)
            parts += (_SAMPLES + varint(9 + len(after_value)) + _VALUE, packed(value), after_value)
        whole = b"".join((*parts, metadata))
        self._parts += (_SERIES + varint(len(whole)), whole)

    def _refer_to(self, texts: Texts) -> tuple[Texts, bytes, bytes]:
        """Return the references to the labels of a series, which several metrics share."""
        known = self._references.get(id(texts))
        if known is None:
            known = self._references[id(texts)] = texts, self._refer(texts.before), self._refer(texts.after)
        return known

    def _refer(self, texts: Sequence[str]) -> bytes:
        symbols = self._symbols
        return b"".join([varint(symbols.setdefault(text, len(symbols))) for text in texts])

    def _describe(self, name: str) -> bytes:
        """Return the Metadata of a metric as a field."""
        metric = self._described[name]
        unit = metric.unit if metric.unit and name.removesuffix("_total").endswith(f"_{metric.unit}") else ""
        kind = tag(1, VARINT) + varint(_KINDS[metric.kind])
        words = tag(3, VARINT) + self._refer([metric.help]) + (tag(4, VARINT) + self._refer([unit]) if unit else b"")
        metadata = self._metadata[name] = field(5, kind + words)
        return metadata

    def finish(self) -> bytes:
        """Return the Request."""
        body = b"".join([*(field(4, text.encode()) for text in self._symbols), *self._parts])
        self._begin()
        return body


def series_of(body: bytes) -> Iterator[tuple[Labels, list[tuple[int, bytes]]]]:
    """Yield labels, and times and packed values, of the series of a Request that this module has written."""
    symbols = []
    for number, value in fields(body):
        assert isinstance(value, bytes)
        if number == 4:
            symbols.append(value.decode())
        else:
            yield _series(symbols, value)


def count_samples(body: bytes) -> int:
    """Return the number of samples in a Request that this module has written; decodes nothing else."""
    series = (value for number, value in fields(body) if number == 5 and isinstance(value, bytes))
    return sum(1 for each in series for number, _ in fields(each) if number == 2)


def _series(symbols: Sequence[str], body: bytes) -> tuple[Labels, list[tuple[int, bytes]]]:
    references: list[int] = []
    samples = []
    for number, value in fields(body):
        assert isinstance(value, bytes)
        if number == 1:
            position = 0
            while position < len(value):
                reference, position = read_varint(value, position)
                references.append(reference)
        elif number == 2:
            sample = dict(fields(value))
            at_ms, packed_value = sample[2], sample[1]
            assert isinstance(at_ms, int) and isinstance(packed_value, bytes)
            samples.append((at_ms, packed_value))
    texts = [symbols[reference] for reference in references]
    return tuple(zip(texts[::2], texts[1::2], strict=True)), samples
