"""Captures of the classic pcap format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ETHERNET = 1
"""Link type (LINKTYPE_ETHERNET)"""

_HEADER_SIZE = 24
_PACKET = "IIII"
_NANOSECONDS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""By magic number: what the second word of a packet's time counts."""


@dataclass(frozen=True)
class Captured:
    """One frame of a capture, of which `frame` may be only the beginning."""

    time_ns: int
    """since 1970"""
    frame: bytes
    length: int
    """bytes it had on the wire"""

    def restored(self) -> bytes:
        """The frame in its length on the wire; what was not captured is zeroes."""
        return self.frame.ljust(self.length, b"\0")


def read(path: Path) -> Iterator[Captured]:
    """The frames of an Ethernet capture, in the order of the file.

    Raises ValueError with the path where the file is another one, or ends within a frame.
    """
    data = path.read_bytes()
    order, unit_ns = _byte_order(data, path)
    (link_type,) = struct.unpack_from(f"{order}I", data, 20)
    if link_type & 0xFFFF != ETHERNET:
        raise ValueError(f"{path}: link type {link_type & 0xFFFF} is not Ethernet")
    header = struct.Struct(order + _PACKET)
    place = _HEADER_SIZE
    while place < len(data):
        if len(data) - place < header.size:
            raise ValueError(f"{path}: ends within the header of a frame")
        seconds, fraction, captured, length = header.unpack_from(data, place)
        place += header.size
        if len(data) - place < captured:
            raise ValueError(f"{path}: ends within a frame")
        yield Captured(seconds * 10**9 + fraction * unit_ns, data[place : place + captured], length)
        place += captured


def _byte_order(data: bytes, path: Path) -> tuple[str, int]:
    """Of the machine that wrote the file, as struct names it; and the unit of fractions of a second, in ns."""
    if len(data) >= _HEADER_SIZE:
        for order in "<>":
            (magic,) = struct.unpack_from(f"{order}I", data)
            if magic in _NANOSECONDS:
                return order, _NANOSECONDS[magic]
    raise ValueError(f"{path}: not a pcap file")
