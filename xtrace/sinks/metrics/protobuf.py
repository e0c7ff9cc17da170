"""The wire format of Protocol Buffers, as much of it as metrics need.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""How a field's value is encoded"""
_FIXED = {FIXED64: 8, FIXED32: 4}


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """Return a non-negative number in groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def tag(number: int, kind: int) -> bytes:
    """Return what stands before the value of a field."""
    return varint(number << 3 | kind)


def field(number: int, value: bytes) -> bytes:
    """Return a field that is a message, a text or packed numbers."""
    return tag(number, LENGTH) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    """Return a field that is a text, which is valid Unicode; an empty one is absent, as is usual."""
    return field(number, value.encode()) if value else b""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it. Raises ValueError at the end of the data."""
    number = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position
    raise ValueError("cut short")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values, bytes but for varints, of a message's fields. Raises ValueError for what is none."""
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = read_varint(data, position)
            yield number, value
            continue
        if kind == LENGTH:
            size, position = read_varint(data, position)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError("not a message")
        if not number or position + size > len(data):
            raise ValueError("not a message")
        yield number, data[position : position + size]
        position += size
