"""BTF, the type information in a BPF object and of the kernel: types, variable sections, function and line records.

Pure: bytes in, values out, ObjectError if malformed. Layouts and numbers are those of the kernel's
include/uapi/linux/btf.h and Documentation/bpf/btf.rst. This module checks what it reads; the kernel checks everything
else when it loads the blob (kernel/bpf/btf.c). csrc/btf.c finds where the types are: the kernel has more than 100,000.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from mmap import mmap
from typing import Any, NamedTuple

from xtrace.errors import ObjectError
from xtrace.kernel.syscall import ffi, lib

__all__ = ["Btf", "InfoRecords", "Kind", "Place", "SectionLayout", "Variable", "cut", "parse_ext", "text", "unpack"]

POINTER_SIZE = 8
MAX_DEPTH = 32
"""Longest chain of types to follow, which also ends loops: MAX_RESOLVE_DEPTH in kernel/bpf/btf.c."""
MAX_SIZE = 0xFFFF_FFFF
INSTRUCTION_SIZE = 8

_MAGIC = 0xEB9F
_VERSION = 1
_HEADER = struct.Struct("<HBBIIIII")  # magic, version, flags, header size, offset and size of types, of strings
_EXT_HEADER = struct.Struct("<HBBIIIII")  # the same, with offset and size of func_info, of line_info
_EXT_CORE = struct.Struct("<II")  # after it, if the header is long enough: CO-RE relocations
_TYPE = struct.Struct("<III")  # name, kind and vlen, size or type
_TRIPLE = struct.Struct("<III")  # btf_array, btf_member and btf_var_secinfo alike
_PAIR = struct.Struct("<II")
_U32 = struct.Struct("<I")
_WORD = "I"  # of an array, in the machine's byte order, which is the object's: no kernel takes another


class Kind:
    """BTF_KIND_*, as far as this tool reads them."""

    INT, PTR, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
    TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC = 8, 9, 10, 11, 12
    VAR, DATASEC, FLOAT, TYPE_TAG, ENUM64 = 14, 15, 16, 18, 19


_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
_MODIFIERS = frozenset((Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG))
_SIZED = frozenset((Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FLOAT, Kind.ENUM64))


def cut(data: bytes | mmap, offset: int, size: int, what: str) -> bytes:
    """Return `size` bytes at `offset`. Raises ObjectError if `data` is too short."""
    return data[_part(data, offset, size, what)]


def unpack(layout: struct.Struct, data: bytes | mmap, offset: int, what: str) -> tuple[Any, ...]:
    """The fields of `layout` at `offset`; ObjectError if they are not all there."""
    if offset + layout.size > len(data):
        raise ObjectError(f"{what}: {layout.size} bytes at offset {offset} of {len(data)}: truncated or corrupt")
    return layout.unpack_from(data, offset)


def _part(data: bytes | mmap, offset: int, size: int, what: str) -> slice:
    """Return what cut() would cut off."""
    if offset + size > len(data):
        raise ObjectError(f"{what}: {size} bytes at offset {offset} of {len(data)}: truncated or corrupt")
    return slice(offset, offset + size)


def text(strings: bytes | mmap, offset: int, what: str, table: slice = slice(0, None)) -> str:
    """Return the NUL-terminated string at `offset` of a string table, which is `table` of `strings`."""
    start, stop, _ = table.indices(len(strings))
    end = strings.find(b"\0", start + offset, stop)
    if end < 0:  # also if the offset is beyond the table
        raise ObjectError(f"{what}: no string at offset {offset} of {stop - start}")
    try:
        return strings[start + offset : end].decode()
    except UnicodeDecodeError:
        raise ObjectError(f"{what}: the string at offset {offset} is not UTF-8") from None


class Type(NamedTuple):
    """One type. `value` is its size in bytes or the type it refers to, `position` the offset of its header."""

    kind: int
    vlen: int
    name: int
    value: int
    position: int


class Place(NamedTuple):
    """Where a struct has a member; offset and size in bytes."""

    offset: int
    size: int
    type_id: int


class Variable(NamedTuple):
    """A variable of a DATASEC; size in bytes."""

    name: str
    type_id: int
    size: int


class SectionLayout(NamedTuple):
    """A section's layout from ELF: its size, and each variable's offset and size, all in bytes."""

    size: int
    variables: Mapping[str, tuple[int, int]]


class Btf:
    """The types of one blob."""

    def __init__(self, blob: bytes | mmap) -> None:
        magic, version, _flags, header, type_offset, type_size, string_offset, string_size = unpack(
            _HEADER, blob, 0, "BTF header"
        )
        if magic != _MAGIC or version != _VERSION:
            raise ObjectError(f"BTF header: magic {magic:#x} version {version}, expected {_MAGIC:#x} and {_VERSION}")
        self.blob = blob
        self._strings = _part(blob, header + string_offset, string_size, "BTF strings")
        types = _part(blob, header + type_offset, type_size, "BTF types")
        self._alive = ffi.from_buffer(blob), _new_uncleared("__u32[]", type_size // _TYPE.size + 2)
        self._found = found = ffi.new("struct xt_btf *")
        found.blob, found.positions = self._alive
        found.types, found.types_end = types.start, types.stop
        found.strings, found.strings_end = self._strings.start, self._strings.stop
        if not lib.xt_btf_find_types(found):
            self._refuse(found.count - 1)

    def _refuse(self, type_id: int) -> None:
        """Raise ObjectError that says what is wrong with the last type."""
        position = self._found.positions[type_id]
        left = self._found.types_end - position
        if left < _TYPE.size:
            unpack(_TYPE, self.blob[: position + left], position, f"BTF type {type_id}")
        kind = self.type(type_id).kind
        if not 0 < kind <= Kind.ENUM64:
            raise ObjectError(f"BTF type {type_id}: unknown kind {kind}")
        raise ObjectError(f"BTF type {type_id}: extends beyond the types: truncated or corrupt")

    @cached_property
    def datasecs(self) -> Mapping[str, int]:
        """Type IDs of the variable sections, by name."""
        sections: dict[str, int] = {}
        for type_id in range(1, self._found.count):
            found = self.type(type_id)
            if found.kind != Kind.DATASEC:
                continue
            section = self.string(found.name)
            if section in sections:
                raise ObjectError(f"BTF type {type_id}: a second section {section!r}")
            sections[section] = type_id
        return sections

    def string(self, offset: int) -> str:
        """Return the string at `offset` of the blob's string section."""
        return text(self.blob, offset, "BTF strings", self._strings)

    def type(self, type_id: int) -> Type:
        """Return the type with that ID."""
        if not 0 <= type_id < self._found.count:
            raise ObjectError(f"BTF type {type_id} does not exist, the last is {self._found.count - 1}")
        position = self._found.positions[type_id]
        if not type_id:
            return Type(0, 0, 0, 0, 0)
        name, info, value = _TYPE.unpack_from(self.blob, position)
        return Type(info >> 24 & 0x1F, info & 0xFFFF, name, value, position)

    def resolve(self, type_id: int, kind: int | None = None) -> Type:
        """Return the type without typedefs and modifiers. Raises ObjectError if it is not of `kind`."""
        current = self.type(type_id)
        for _ in range(MAX_DEPTH):
            if current.kind not in _MODIFIERS:
                if kind is not None and current.kind != kind:
                    raise ObjectError(f"BTF type {type_id}: kind {current.kind}, expected {kind}")
                return current
            current = self.type(current.value)
        raise ObjectError(f"BTF type {type_id}: more than {MAX_DEPTH} modifiers, or a loop of them")

    def pointee(self, type_id: int) -> int:
        """Return the type ID that a pointer points to."""
        return self.resolve(type_id, Kind.PTR).value

    def array(self, type_id: int) -> tuple[int, int]:
        """Return an array's element type ID and number of elements."""
        position = self.resolve(type_id, Kind.ARRAY).position + _TYPE.size
        element, _index_type, count = _TRIPLE.unpack_from(self.blob, position)
        return element, count

    def members(self, type_id: int) -> list[tuple[str, int]]:
        """Return name and type ID of each member of a struct."""
        return [(self.string(name), member) for name, member, _ in self._elements(self.resolve(type_id, Kind.STRUCT))]

    def find(self, kind: int, name: str) -> int | None:
        """Return the ID of the first type of that kind and name; None if there is none."""
        return lib.xt_btf_type(self._found, kind, name.encode()) or None

    def constants(self, type_id: int) -> dict[str, int]:
        """Return the values of an enum, by name, as unsigned numbers of 32 bits."""
        found = self.resolve(type_id, Kind.ENUM)
        start = found.position + _TYPE.size
        pairs = _PAIR.iter_unpack(self.blob[start : start + _PAIR.size * found.vlen])
        return {self.string(name): value for name, value in pairs}

    def place(self, type_id: int, *path: str) -> Place | None:
        """Return where a struct's member is; `path` leads through members that are structs, or arrays of them.

        Members without a name are looked into. None if there is no such member, or it is a bit field.
        """
        offset = 0
        for name in path:
            while self.resolve(type_id).kind == Kind.ARRAY:
                type_id = self.array(type_id)[0]
            step = self._member(type_id, name)
            if step is None:
                return None
            offset += step[0]
            type_id = step[1]
        return Place(offset, self.size_of(type_id), type_id)

    def _member(self, type_id: int, name: str, depth: int = 0) -> tuple[int, int] | None:
        """Return offset in bytes and type ID of a member of a struct or union."""
        found = self.resolve(type_id)
        if found.kind not in (Kind.STRUCT, Kind.UNION) or depth > MAX_DEPTH:
            return None
        has_bit_fields = bool(_U32.unpack_from(self.blob, found.position + 4)[0] >> 31)
        for own_name, member, bits in self._elements(found):
            width, bits = (bits >> 24, bits & 0xFFFFFF) if has_bit_fields else (0, bits)
            own = self.string(own_name)
            if own == name:
                return None if width or bits % 8 else (bits // 8, member)
            inner = None if own else self._member(member, name, depth + 1)
            if inner is not None:
                return bits // 8 + inner[0], inner[1]
        return None

    def size_of(self, type_id: int) -> int:
        """Return the size of a variable of that type, in bytes."""
        count, current = 1, type_id
        for _ in range(MAX_DEPTH):
            found = self.resolve(current)
            if found.kind == Kind.ARRAY:
                current, elements = self.array(current)
                count *= elements
                continue
            if found.kind != Kind.PTR and found.kind not in _SIZED:
                raise ObjectError(f"BTF type {type_id}: kind {found.kind} has no size")
            size = count * (POINTER_SIZE if found.kind == Kind.PTR else found.value)
            if size > MAX_SIZE:
                raise ObjectError(f"BTF type {type_id}: {size} bytes are too many")
            return size
        raise ObjectError(f"BTF type {type_id}: arrays nested more than {MAX_DEPTH} deep, or in a loop")

    def variables(self, section: str) -> list[Variable]:
        """Return the variables of a DATASEC, none if there is no such section. Their offsets are known to ELF only."""
        if section not in self.datasecs:
            return []
        found = []
        for type_id, _offset, size in self._elements(self.type(self.datasecs[section])):
            variable = self.type(type_id)
            if variable.kind != Kind.VAR:
                raise ObjectError(f"BTF section {section!r}: type {type_id} is not a variable")
            found.append(Variable(self.string(variable.name), variable.value, size))
        return found

    def with_layout(self, layouts: Mapping[str, SectionLayout]) -> bytes:
        """Return the blob with the sizes and offsets in its DATASECs, which clang leaves 0, filled in.

        The kernel requires a nonzero size, and variables sorted by offset and not overlapping
        (btf_datasec_check_meta() in kernel/bpf/btf.c).
        """
        blob = bytearray(self.blob)
        for section, type_id in self.datasecs.items():
            if section not in layouts:
                raise ObjectError(f"BTF section {section!r}: the object does not contain it; externs are not supported")
            entries = self._placed(section, layouts[section])
            position = self.type(type_id).position
            _U32.pack_into(blob, position + 8, layouts[section].size)
            for index, (offset, variable, size) in enumerate(entries):
                _TRIPLE.pack_into(blob, position + _TYPE.size + _TRIPLE.size * index, variable, offset, size)
        return bytes(blob)

    def _placed(self, section: str, layout: SectionLayout) -> list[tuple[int, int, int]]:
        """Return offset, VAR type ID and size of a section's variables, sorted by offset."""
        entries = []
        records = self._elements(self.type(self.datasecs[section]))
        for (type_id, _, _), variable in zip(records, self.variables(section), strict=True):
            if variable.name not in layout.variables:
                raise ObjectError(f"BTF section {section!r}: no symbol for variable {variable.name!r}")
            entries.append((layout.variables[variable.name][0], type_id, variable.size))
        entries.sort()
        end = 0
        for offset, _, size in entries:
            if offset < end or size == 0:
                raise ObjectError(f"BTF section {section!r}: variables overlap or are empty at offset {offset}")
            end = offset + size
        if end > layout.size or layout.size == 0:
            raise ObjectError(f"BTF section {section!r}: variables need {end} bytes, the section has {layout.size}")
        return entries

    def _elements(self, found: Type) -> list[tuple[int, int, int]]:
        """Return the three-word elements after a struct's or DATASEC's header; C checked the bounds."""
        start = found.position + _TYPE.size
        return list(_TRIPLE.iter_unpack(self.blob[start : start + _TRIPLE.size * found.vlen]))


class InfoRecords(NamedTuple):
    """All func_info or line_info: the size of a record in bytes, and the records of each code section."""

    record_size: int
    sections: Mapping[str, bytes]

    def of(self, section: str, start: int, size: int) -> bytes:
        """Return the records of the code at bytes [start, start + size) of a section.

        A record begins with an offset: in the object bytes into the section, in the result, as the kernel expects,
        instructions into this piece of code.
        """
        words = array(_WORD, self.sections.get(section, b""))
        width = self.record_size // words.itemsize or 1
        offsets = words[::width]
        first, last = bisect_left(offsets, start), bisect_left(offsets, start + size)
        inside = offsets[first:last].tolist()
        if inside != sorted(inside) or any(not start <= offset < start + size for offset in inside[:1] + inside[-1:]):
            raise ObjectError(f".BTF.ext: the records of section {section!r} are in no order")
        for offset in inside:
            if offset % INSTRUCTION_SIZE:
                raise ObjectError(f".BTF.ext: a record of section {section!r} points into an instruction, at {offset}")
        found = words[first * width : last * width]
        found[::width] = array(_WORD, [(offset - start) // INSTRUCTION_SIZE for offset in inside])
        return found.tobytes()


def parse_ext(blob: bytes, btf: Btf) -> tuple[InfoRecords, InfoRecords]:
    """Return func_info and line_info of a .BTF.ext section; `btf` holds its section names."""
    magic, version, _flags, header, func_offset, func_size, line_offset, line_size = unpack(
        _EXT_HEADER, blob, 0, ".BTF.ext header"
    )
    if magic != _MAGIC or version != _VERSION:
        raise ObjectError(f".BTF.ext header: magic {magic:#x} version {version}, expected {_MAGIC:#x} and {_VERSION}")
    if header >= _EXT_HEADER.size + _EXT_CORE.size and unpack(_EXT_CORE, blob, _EXT_HEADER.size, ".BTF.ext header")[1]:
        # without them the program would read kernel structs at the build host's offsets
        raise ObjectError(".BTF.ext: CO-RE relocations are not supported; compile without preserve_access_index")
    func_info = cut(blob, header + func_offset, func_size, ".BTF.ext func_info")
    line_info = cut(blob, header + line_offset, line_size, ".BTF.ext line_info")
    return _records(func_info, 8, "func_info", btf), _records(line_info, 16, "line_info", btf)


def _records(data: bytes, smallest: int, what: str, btf: Btf) -> InfoRecords:
    """Parse a record size, then for each section its name, the number of records, and the records."""
    if not data:
        return InfoRecords(0, {})
    what = f".BTF.ext {what}"
    (record_size,) = unpack(_U32, data, 0, what)
    if record_size < smallest or record_size % 4:
        raise ObjectError(f"{what}: records of {record_size} bytes, expected a multiple of 4 from {smallest} on")
    sections: dict[str, bytes] = {}
    position = _U32.size
    while position < len(data):
        name, count = unpack(_PAIR, data, position, what)
        records = cut(data, position + _PAIR.size, count * record_size, what)
        section = btf.string(name)
        sections[section] = sections.get(section, b"") + records
        position += _PAIR.size + len(records)
    return InfoRecords(record_size, sections)
