"""File offsets of functions in a program or shared library, from its symbol tables.

Read with pread(), never mapped: if a mapped file shrank, the process would die of SIGBUS. The format is that of
the System V ABI and elf.h; uprobes take such offsets (Documentation/trace/uprobetracer.rst).
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from xtrace.errors import ObjectError

__all__ = ["function_offsets"]

MOST_BYTES = 256 << 20
"""Read of one file. What is installed has far smaller tables; larger ones are debug builds, or nonsense."""

MOST_TABLES = 8
"""Symbol tables looked at; linkers make two."""

MOST_PLACES = 256
"""Of one name among the strings: it may be the end of other names."""

LARGEST_OFFSET = 1 << 63
"""loff_t is signed."""

_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bit, little endian, version 1
_MACHINES = {"x86_64": 62, "aarch64": 183}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_PT_LOAD = 1
_STT_FUNC = 2
_SHN_UNDEF = 0


class _Table(NamedTuple):
    """A symbol table and its strings, by place and size in the file."""

    offset: int
    size: int
    names_offset: int
    names_size: int


class _Segment(NamedTuple):
    """What of the file is loaded where."""

    offset: int
    address: int
    size: int


def function_offsets(fd: int, names: Sequence[str], required: str) -> dict[str, int]:
    """File offsets of those functions of `names` that the file defines; {} unless `required` is one.

    Looks in .dynsym, then in .symtab. Raises ObjectError for what is no 64-bit file of this machine, or malformed.
    """
    file = _File(fd)
    header = file.read(0, _HEADER.size)
    ident, _, machine, _, _, segments_at, sections_at, _, _, segment_size, segment_count, size, count, _ = (
        _HEADER.unpack(header)
    )
    if not ident.startswith(_IDENT) or machine != _MACHINES.get(platform.machine()):
        raise ObjectError("not an ELF file of this machine")
    if (segment_count and segment_size != _SEGMENT.size) or (count and size != _SECTION.size):
        raise ObjectError("ELF header: sizes that no 64-bit file has")
    segments = list(_segments(file.read(segments_at, segment_count * _SEGMENT.size)))
    for table in islice(_tables(file.read(sections_at, count * _SECTION.size)), MOST_TABLES):
        strings = file.read(table.names_offset, table.names_size)
        if _places(strings, required):
            symbols = file.read(table.offset, table.size // _SYMBOL.size * _SYMBOL.size)
            found = _functions(symbols, strings, names)
            if required in found:
                return {name: _file_offset(segments, address) for name, address in found.items()}
    return {}


class _File:
    """What is read of one file, all of it together no more than MOST_BYTES."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left = MOST_BYTES

    def read(self, offset: int, size: int) -> bytes:
        """All of these bytes, or ObjectError."""
        where = f"{size} bytes at offset {offset}"
        if size > self._left:
            raise ObjectError(f"{where}: of one file no more than {MOST_BYTES} bytes are read")
        self._left -= size
        try:
            data = os.pread(self._fd, size, offset)
        except (OSError, OverflowError) as error:
            raise ObjectError(f"{where}: {error}") from error
        if len(data) < size:
            raise ObjectError(f"{where}: truncated or corrupt")
        return data


def _segments(data: bytes) -> Iterator[_Segment]:
    for kind, _, offset, address, _, size, _, _ in _SEGMENT.iter_unpack(data):
        if kind == _PT_LOAD:
            yield _Segment(offset, address, size)


def _tables(data: bytes) -> Iterator[_Table]:
    """The symbol tables, those that the dynamic linker reads first."""
    sections = list(_SECTION.iter_unpack(data))
    for wanted in (_SHT_DYNSYM, _SHT_SYMTAB):
        for _, kind, _, _, offset, size, link, _, _, _ in sections:
            if kind == wanted and link < len(sections):
                yield _Table(offset, size, sections[link][4], sections[link][5])


def _places(strings: bytes, name: str) -> list[int]:
    """Where a name stands. Linkers let a name be the end of a longer one (pncclSend)."""
    wanted = name.encode() + b"\0"
    places: list[int] = []
    place = strings.find(wanted)
    while place >= 0 and len(places) < MOST_PLACES:
        places.append(place)
        place = strings.find(wanted, place + 1)
    return places


def _functions(symbols: bytes, strings: bytes, names: Sequence[str]) -> Mapping[str, int]:
    """Addresses of the functions that the table defines."""
    by_place = {place: name for name in names for place in _places(strings, name)}
    return {
        by_place[name]: address
        for name, info, _, section, address, _ in _SYMBOL.iter_unpack(symbols)
        if name in by_place and info & 0x0F == _STT_FUNC and section != _SHN_UNDEF
    }


def _file_offset(segments: Sequence[_Segment], address: int) -> int:
    for segment in segments:
        if segment.address <= address < segment.address + segment.size:
            offset = address - segment.address + segment.offset
            if offset < LARGEST_OFFSET:
                return offset
    raise ObjectError(f"address {address:#x} of a function is in no segment that is loaded")
