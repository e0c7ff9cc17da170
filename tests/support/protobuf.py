"""Decode a WriteRequest by the wire format alone, independently of what encodes it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

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
