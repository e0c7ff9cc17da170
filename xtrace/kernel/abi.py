"""Byte layouts that C and Python share: what cffi read in csrc/*.h, as struct.Struct and offsets. No system call.

No layout is written down in Python. Names of fields are, where Python's records have them; layout() compares them with
the header's when the module that wants them is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Any

from xtrace.kernel.syscall import ffi

U32 = Struct("=I")
"""__u32; as a map's key the index of an array's element."""
U64 = Struct("=Q")
"""__u64"""

PADDING = "padding"
"""What the headers call members that mean nothing; they are skipped."""

_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""Sizes in bytes -> struct's letters."""


def layout(name: str, *fields: str) -> Struct:
    """The layout of `struct flow_key`, in host byte order, every byte of it. TypeError if `fields` are not its members.

    Arrays of bytes are one value of type bytes each, other arrays and structs one value for each of their integers. Of
    the members of a union the first one counts.
    """
    struct = ffi.typeof(name)
    found = tuple(member for member, _ in _members(struct) if member != PADDING)
    if found != fields:
        raise TypeError(f"{name} has the fields {', '.join(found)}; expected are {', '.join(fields)}")
    return Struct(f"={_format(struct)}")


def offset(name: str, *path: str) -> int:
    """Where a field stands in `struct flow_key`, in bytes."""
    return ffi.offsetof(name, *path)


def names(by_number: Mapping[int, str], count: int) -> tuple[str, ...]:
    """What an enumeration calls its numbers, from 0 to `count` - 1, in order. TypeError unless each has one name."""
    if sorted(by_number) != list(range(count)):
        raise TypeError(f"names for {sorted(by_number)}; expected are all numbers below {count}")
    return tuple(by_number[number] for number in range(count))


def _members(struct: Any) -> Iterator[tuple[str, Any]]:
    """Name and cffi's description of each member, in order; of those that overlap (a union) the first one."""
    end = 0
    for name, field in struct.fields:
        if field.offset >= end:
            end = field.offset + ffi.sizeof(field.type)
            yield name, field


def _format(ctype: Any) -> str:
    """`ctype` for struct.Struct, without a sign for the byte order."""
    size = ffi.sizeof(ctype)
    if ctype.kind == "primitive":
        letter = _UNSIGNED[size]
        return letter.lower() if int(ffi.cast(ctype, -1)) < 0 else letter
    if ctype.kind == "array":
        return f"{size}s" if ffi.sizeof(ctype.item) == 1 else _format(ctype.item) * ctype.length
    if ctype.kind != "struct":
        raise TypeError(f"{ctype.cname}: pointers mean nothing on the other side")
    parts, end = [], 0
    for name, field in _members(ctype):
        used = ffi.sizeof(field.type)
        parts.append("x" * (field.offset - end))
        parts.append(f"{used}x" if name == PADDING else _format(field.type))
        end = field.offset + used
    return "".join(parts) + "x" * (size - end)
