"""File offsets of functions in a program or shared library, from its symbol tables.

Read with pread(), never mapped: if a mapped file shrank, the process would die of SIGBUS. The format is that of
the System V ABI and elf.h; uprobes take such offsets (Documentation/trace/uprobetracer.rst).
"""

from __future__ import annotations

import os
import platform
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from xtrace.errors import ObjectError

__all__ = ["Extent", "TooLarge", "function_extents", "function_offsets", "functions_like"]

MOST_BYTES = 128 << 20
"""Read of one file. Installed programs have far smaller tables; larger ones are debug builds, or bait."""

PIECE = 1 << 20
"""Read at once: memory does not grow with what a header claims."""

MOST_TABLES = 8
"""Symbol tables searched; linkers make two."""

MOST_PLACES = 1024
"""Occurrences of names among the strings; a name may also be the end of longer ones."""

LONGEST_NAME = 256

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


class TooLarge(ObjectError):
    """The symbol tables are larger than what is read of one file."""


class Extent(NamedTuple):
    """Where a function is in a file."""

    offset: int
    size: int
    """0: not known"""


class _Table(NamedTuple):
    """Offsets and sizes in the file of a symbol table and its strings."""

    offset: int
    size: int
    names_offset: int
    names_size: int


class _Segment(NamedTuple):
    """A loaded part of the file."""

    offset: int
    address: int
    size: int


def functions_like(fd: int, pattern: str, required: str) -> set[str]:
    """Names of functions that the file defines and that match a pattern, from the table that defines `required`.

    Raises the same errors as function_offsets().
    """
    file = _File(fd)
    for table in islice(_tables(_read_headers(file)[1]), MOST_TABLES):
        places = _places(file, table, re.compile(f"({pattern}|{re.escape(required)})\0".encode()))
        if required in places.values():
            return _functions(file, table, places).keys() - {required}
    return set()


def function_offsets(fd: int, names: Sequence[str], required: str) -> dict[str, int]:
    """The same as function_extents() without sizes."""
    return {name: extent.offset for name, extent in function_extents(fd, names, required).items()}


def function_extents(fd: int, names: Sequence[str], required: str) -> dict[str, Extent]:
    """File offsets and sizes of the functions in `names` that the file defines; {} if it does not define `required`.

    Searches .dynsym, and .symtab only if .dynsym lacks `required`. Reads in pieces of PIECE bytes. Raises ObjectError
    for a malformed file or one for another machine, and TooLarge if more than MOST_BYTES would have to be read.
    """
    file = _File(fd)
    segments_, sections = _read_headers(file)
    # names with a common beginning: the search for that literal is what runs over each byte
    pattern = re.compile(b"(" + b"|".join(re.escape(name.encode()) for name in sorted(names)) + b")\0")
    for table in islice(_tables(sections), MOST_TABLES):
        places = _places(file, table, pattern)
        if required in places.values():
            found = _functions(file, table, places)
            if required in found:
                segments = list(_segments(segments_))
                return {name: Extent(_file_offset(segments, place.offset), place.size) for name, place in found.items()}
    return {}


def _read_headers(file: _File) -> tuple[bytes, bytes]:
    """Segment and section headers. Raises ObjectError if this is no file of this machine."""
    header = file.read(0, _HEADER.size)
    ident, _, machine, _, _, segments_at, sections_at, _, _, segment_size, segment_count, size, count, _ = (
        _HEADER.unpack(header)
    )
    if not ident.startswith(_IDENT) or machine != _MACHINES.get(platform.machine()):
        raise ObjectError("not an ELF file of this machine")
    if (segment_count and segment_size != _SEGMENT.size) or (count and size != _SECTION.size):
        raise ObjectError("ELF header: invalid size of a segment or section header")
    return file.read(segments_at, segment_count * _SEGMENT.size), file.read(sections_at, count * _SECTION.size)


class _File:
    """Reads one file, at most MOST_BYTES in total."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left = MOST_BYTES

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes. Raises ObjectError if they cannot be read, TooLarge beyond MOST_BYTES."""
        where = f"{size} bytes at offset {offset}"
        if size > self._left:
            raise TooLarge(f"{where}: more than {MOST_BYTES} bytes to read")
        self._left -= size
        try:
            data = os.pread(self._fd, size, offset)
        except (OSError, OverflowError) as error:
            raise ObjectError(f"{where}: {error}") from error
        if len(data) < size:
            raise ObjectError(f"{where}: truncated or corrupt")
        return data

    def pieces(self, offset: int, size: int, multiple: int = 1) -> Iterator[bytes]:
        """The same in pieces of a multiple of `multiple` bytes; a part of that at the end is left out.

        TooLarge comes before the first piece.
        """
        if size > self._left:
            raise TooLarge(f"{size} bytes at offset {offset}: more than {MOST_BYTES} bytes to read")
        end = offset + size // multiple * multiple
        step = PIECE // multiple * multiple
        for at in range(offset, end, step):
            yield self.read(at, min(step, end - at))


def _segments(data: bytes) -> Iterator[_Segment]:
    for kind, _, offset, address, _, size, _, _ in _SEGMENT.iter_unpack(data):
        if kind == _PT_LOAD:
            yield _Segment(offset, address, size)


def _tables(data: bytes) -> Iterator[_Table]:
    """The symbol tables, dynamic ones first."""
    sections = list(_SECTION.iter_unpack(data))
    for wanted in (_SHT_DYNSYM, _SHT_SYMTAB):
        for _, kind, _, _, offset, size, link, _, _, _ in sections:
            if kind == wanted and link < len(sections):
                yield _Table(offset, size, sections[link][4], sections[link][5])


def _places(file: _File, table: _Table, pattern: re.Pattern[bytes]) -> dict[int, str]:
    """Offsets of names among the strings of a table. Linkers let a name be the end of a longer one (pncclSend)."""
    places: dict[int, str] = {}
    before, at = b"", table.names_offset
    for piece in file.pieces(table.names_offset, table.names_size):
        data = before + piece
        for found in pattern.finditer(data):
            if len(places) >= MOST_PLACES:
                return places
            places[at - len(before) + found.start() - table.names_offset] = found.group(1).decode()
        at += len(piece)
        before = data[-LONGEST_NAME:]
    return places


def _functions(file: _File, table: _Table, places: Mapping[int, str]) -> dict[str, Extent]:
    """Addresses and sizes of the functions that the table defines."""
    found: dict[str, Extent] = {}
    for piece in file.pieces(table.offset, table.size, _SYMBOL.size):
        # the first word of every symbol is its name: most pieces have none of the wanted ones
        if places.keys().isdisjoint(memoryview(piece).cast("I")[:: _SYMBOL.size // 4].tolist()):
            continue
        for name, info, _, section, address, size in _SYMBOL.iter_unpack(piece):
            if name in places and info & 0x0F == _STT_FUNC and section != _SHN_UNDEF:
                found[places[name]] = Extent(address, size)
    return found


def _file_offset(segments: Sequence[_Segment], address: int) -> int:
    for segment in segments:
        if segment.address <= address < segment.address + segment.size:
            offset = address - segment.address + segment.offset
            if offset < LARGEST_OFFSET:
                return offset
    raise ObjectError(f"address {address:#x} of a function is in no segment that is loaded")
