"""The block format of snappy, which remote write requires.

https://github.com/google/snappy/blob/main/format_description.txt

With the package cramjam (the extra `remote-write`) bodies are compressed. Without it they are valid blocks of a single
literal: as long as the samples themselves, which any receiver takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

LIBRARY = "cramjam"
_LITERAL_OF_4_BYTE_LENGTH = 63 << 2


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """Return a non-negative number in groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


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
