"""Rendering of addresses, times and flags, the same in all formats."""

from __future__ import annotations

import socket
import time
from functools import lru_cache

MAPPED = bytes(10) + b"\xff\xff"
TCP_FLAG_NAMES = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
"""RFC 9293 3.1, from bit 0."""


@lru_cache(maxsize=8192)
def address(packed: bytes) -> str:
    """Return the text of an address of 16 bytes, IPv4 mapped."""
    if packed.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def short_id(container: str) -> str:
    """Return a container's ID as container tools print it."""
    return container[:12]


def valid_unicode(text: str) -> str:
    """Return `text` for JSON: names are bytes in Linux, and bytes that are not UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(maxsize=256)
def tcp_flag_names(flags: int) -> str:
    """Return `SYN,ACK` for 0x12."""
    return ",".join(name for bit, name in enumerate(TCP_FLAG_NAMES) if flags >> bit & 1)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def timestamp(wall_ns: int) -> str:
    """Return RFC 3339 in UTC with milliseconds: `2026-01-01T00:00:05.000Z`."""
    seconds, fraction = divmod(wall_ns // 1_000_000, 1000)
    return f"{_second(seconds)}.{fraction:03d}Z"
