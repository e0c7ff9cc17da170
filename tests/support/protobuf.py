"""Decode remote write's messages, independently of what encodes them: 1.0 by the wire format alone, 2.0 by the library
`protobuf` and the published definition.

https://github.com/prometheus/prometheus/blob/main/prompb/io/prometheus/write/v2/types.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Labels = tuple[tuple[str, str], ...]
Points = list[tuple[int, float]]
"""Milliseconds and value."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field numbers and values: varints as int, 64 bits and lengths as bytes."""
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = data[position]
            position += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return number

    while position < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        size = {1: 8, 2: -1}[tag & 7]
        size = varint() if size < 0 else size
        assert position + size <= len(data)
        yield tag >> 3, data[position : position + size]
        position += size


def time_series(body: bytes) -> list[tuple[Labels, Points]]:
    """Return labels and samples of all TimeSeries of a WriteRequest."""
    found = []
    for number, series in fields(body):
        assert number == 1 and isinstance(series, bytes)
        labels, points = [], []
        for part, value in fields(series):
            assert isinstance(value, bytes)
            inner = dict(fields(value))
            if part == 1:
                name, text = inner[1], inner[2]
                assert isinstance(name, bytes) and isinstance(text, bytes)
                labels.append((name.decode(), text.decode()))
            else:
                double, at_ms = inner[1], inner[2]
                assert part == 2 and isinstance(double, bytes) and isinstance(at_ms, int)
                points.append((at_ms, struct.unpack("<d", double)[0]))
        found.append((tuple(labels), points))
    return found


DEFINED = {
    "Request": (("symbols", 4, "repeated string"), ("timeseries", 5, "repeated TimeSeries")),
    "TimeSeries": (
        *(("labels_refs", 1, "repeated uint32"), ("samples", 2, "repeated Sample")),
        ("metadata", 5, "optional Metadata"),
    ),
    "Sample": (
        *(("value", 1, "optional double"), ("timestamp", 2, "optional int64")),
        ("start_timestamp", 3, "optional int64"),
    ),
    "Metadata": (("type", 1, "optional int32"), ("help_ref", 3, "optional uint32"), ("unit_ref", 4, "optional uint32")),
}
"""Names, numbers and types of the fields that are sent."""


@lru_cache
def _class_of_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="write.proto", package="io.prometheus.write.v2", syntax="proto3")
    made = descriptor_pb2.FieldDescriptorProto
    for name, members in DEFINED.items():
        message = file.message_type.add(name=name)
        for member, number, kind in members:
            label, _, type_name = kind.partition(" ")
            own = message.field.add(name=member, number=number, label=made.Label.Value(f"LABEL_{label.upper()}"))
            if type_name in DEFINED:
                own.type, own.type_name = made.TYPE_MESSAGE, f".{file.package}.{type_name}"
            else:
                own.type = made.Type.Value(f"TYPE_{type_name.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("io.prometheus.write.v2.Request"))


def parsed_2(body: bytes) -> Any:
    """Return a Request of remote write 2.0."""
    request = _class_of_request()()
    assert request.ParseFromString(body) == len(body)
    return request


def request_2(body: bytes) -> list[tuple[Labels, Points]]:
    """Return labels and samples of all series of a Request of remote write 2.0; asserts what the specification asks."""
    request = parsed_2(body)
    symbols = list(request.symbols)
    assert symbols[0] == "" and len(set(symbols)) == len(symbols)
    found = []
    for series in request.timeseries:
        texts = [symbols[reference] for reference in series.labels_refs]
        labels = tuple(zip(texts[::2], texts[1::2], strict=True))
        assert list(labels) == sorted(labels) and all(texts) and series.samples and series.metadata.type in (1, 2)
        found.append((labels, [(sample.timestamp, sample.value) for sample in series.samples]))
    return found
