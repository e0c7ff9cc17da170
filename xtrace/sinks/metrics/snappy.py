"""The block format of snappy, which remote write requires.

https://github.com/google/snappy/blob/main/format_description.txt

With the package cramjam (the extra `remote-write`) bodies are compressed. Without it they are valid blocks of a single
literal: as long as the samples themselves, which any receiver takes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from xtrace.sinks.metrics.protobuf import read_varint, varint

LIBRARY = "cramjam"
_LITERAL, _COPY_1, _COPY_2 = range(3)
"""Kinds of elements; 3 is a copy with an offset of 4 bytes"""
_LONGEST_SHORT_LITERAL = 60
_LITERAL_OF_4_BYTE_LENGTH = 63 << 2


def literal(data: bytes) -> bytes:
    """Return data, at most 4 GiB, as a block without compression."""
    if not data:
        return varint(0)
    return varint(len(data)) + bytes([_LITERAL_OF_4_BYTE_LENGTH]) + (len(data) - 1).to_bytes(4, "little") + data


def is_compressing() -> bool:
    """Return whether the library that compresses is installed."""
    return find_spec(LIBRARY) is not None


def compressor() -> Callable[[bytes], bytes]:
    """Return the function that makes blocks: the library's if it is installed."""
    if not is_compressing():
        return literal
    compress = import_module(LIBRARY).snappy.compress_raw
    return lambda data: bytes(compress(data))


def first_byte(block: bytes) -> int | None:
    """Return the first byte of what a block contains: it begins with a literal. None if it contains nothing."""
    size, position = read_varint(block, 0)
    return block[_literal(block, position)[0]] if size else None


def decompress(block: bytes) -> bytes:
    """Return what a valid block contains."""
    size, position = read_varint(block, 0)
    made = bytearray()
    while position < len(block):
        tag = block[position]
        if tag & 3 == _LITERAL:
            start, length = _literal(block, position)
            made += block[start : start + length]
            position = start + length
            continue
        if tag & 3 == _COPY_1:
            length, offset, position = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[position + 1], position + 2
        else:
            width = 2 if tag & 3 == _COPY_2 else 4
            offset = int.from_bytes(block[position + 1 : position + 1 + width], "little")
            length, position = (tag >> 2) + 1, position + 1 + width
        copied = bytes(made[len(made) - offset :][:length])
        made += (copied * (length // len(copied) + 1))[:length]  # a copy may overlap what it makes
    assert len(made) == size
    return bytes(made)


def _literal(block: bytes, position: int) -> tuple[int, int]:
    """Return where the bytes of a literal start, and how many they are."""
    length = (block[position] >> 2) + 1
    width = max(0, length - _LONGEST_SHORT_LITERAL)
    start = position + 1 + width
    return start, int.from_bytes(block[position + 1 : start], "little") + 1 if width else length
