"""Byte layouts shared by C and Python, read from csrc/*.h by cffi, as struct.Struct and offsets. No system call.

Python code repeats no layout, only field names; layout() compares these with the header on import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Any

from xtrace.kernel.syscall import ffi

U32 = Struct("=I")
"""__u32; as a map key the index of an array element."""
U64 = Struct("=Q")
"""__u64"""

PADDING = "padding"
"""Name of padding members in the headers; they are skipped."""

_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""Sizes in bytes -> struct's letters."""


def layout(name: str, *fields: str) -> Struct:
    """Return the layout of a struct (`struct flow_key`) in host byte order. TypeError if `fields` are not its members.

    An array of bytes is one value of type bytes; other arrays and structs are one value per integer. Only the first
    member of a union is used.
    """
    struct = ffi.typeof(name)
    found = tuple(member for member, _ in _members(struct) if member != PADDING)
    if found != fields:
        raise TypeError(f"{name} has the fields {', '.join(found)}; expected {', '.join(fields)}")
    return Struct(f"={_format(struct)}")


def offset(name: str, *path: str) -> int:
    """Return the offset of a field in a struct (`struct flow_key`), in bytes."""
    return ffi.offsetof(name, *path)


def names(by_number: Mapping[int, str], count: int) -> tuple[str, ...]:
    """Return the names of an enumeration's numbers 0 to `count` - 1, in order. TypeError if one is missing."""
    if sorted(by_number) != list(range(count)):
        raise TypeError(f"names for {sorted(by_number)}; expected all numbers below {count}")
    return tuple(by_number[number] for number in range(count))


def _members(struct: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and cffi description of each member, in order; only the first of overlapping ones (a union)."""
    end = 0
    for name, field in struct.fields:
        if field.offset >= end:
            end = field.offset + ffi.sizeof(field.type)
            yield name, field


def _format(ctype: Any) -> str:
    """Return the struct.Struct format of `ctype`, without the byte order character."""
    size = ffi.sizeof(ctype)
    if ctype.kind == "primitive":
        letter = _UNSIGNED[size]
        return letter.lower() if int(ffi.cast(ctype, -1)) < 0 else letter
    if ctype.kind == "array":
        return f"{size}s" if ffi.sizeof(ctype.item) == 1 else _format(ctype.item) * ctype.length
    if ctype.kind != "struct":
        raise TypeError(f"{ctype.cname}: pointers cannot be shared")
    parts, end = [], 0
    for name, field in _members(ctype):
        used = ffi.sizeof(field.type)
        parts.append("x" * (field.offset - end))
        parts.append(f"{used}x" if name == PADDING else _format(field.type))
        end = field.offset + used
    return "".join(parts) + "x" * (size - end)
