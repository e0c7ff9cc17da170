"""The flows of an interval added up by owner, as their table has them (csrc/drain.c). No names."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from struct import Struct
from typing import NamedTuple

from xtrace.kernel import abi
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow_owners import OWNER

_SUM = abi.layout("struct owner_sum", "owner", "flows", "packets", "bytes", "slot", "egress")
_ROW = Struct(f"={OWNER.size}s{_SUM.format.removeprefix(OWNER.format)}")
"""The same with the owner as bytes."""
_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class OwnerRow(NamedTuple):
    """struct owner_sum: what one owner's flows carried across an interface in one direction."""

    owner: bytes
    """struct flow_owner"""
    flows: int
    packets: int
    bytes: int
    slot: int
    egress: int
    """FLOW_EGRESS, or 0"""


class OwnerRows:
    """The sums of a table."""

    def __init__(self, entries: memoryview, owners: memoryview, count: int) -> None:
        """Add up `count` struct flow_entry. `owners`: as many struct flow_owner, or empty: they are all the same."""
        places = 1 << (2 * count).bit_length()
        # with room for a sum per flow, of which only those that are used take memory
        sums, numbers = _new_uncleared("struct owner_sum[]", count), array("I", bytes(count * abi.U32.size))
        used = lib.xt_sum_owners(
            ffi.from_buffer("struct flow_entry[]", entries),
            ffi.from_buffer("struct flow_owner[]", owners) if owners else ffi.NULL,
            count,
            sums,
            ffi.from_buffer("__u32[]", numbers),
            ffi.new("__u32[]", places),
            places,
        )
        self.rows: Sequence[OwnerRow] = [*map(OwnerRow._make, _ROW.iter_unpack(ffi.buffer(sums, used * _ROW.size)))]
        """in the order in which they occur"""
        self.numbers: Sequence[int] = numbers
        """of each flow, by its index in the table, the index of its row"""

    @cached_property
    def by_place(self) -> Mapping[tuple[int, int], Sequence[OwnerRow]]:
        """Rows by slot and FLOW_EGRESS."""
        places: dict[tuple[int, int], list[OwnerRow]] = {}
        for row in self.rows:
            places.setdefault((row.slot, row.egress), []).append(row)
        return places
