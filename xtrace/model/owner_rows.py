"""The flows of an interval added up by owner, as their table has them (csrc/drain.c). No names."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from struct import Struct
from typing import Any, NamedTuple

from xtrace.kernel import abi
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow_owners import OWNER

_SUM = abi.layout("struct owner_sum", "owner", "flows", "packets", "bytes", "slot", "egress")
_ROW = Struct(f"={OWNER.size}s{_SUM.format.removeprefix(OWNER.format)}")
"""The same with the owner as bytes."""
PLACES = 512
"""Slots, in two directions."""
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


class Parts(NamedTuple):
    """The rows of one owner."""

    numbers: Sequence[int]
    """of the rows, as `OwnerRows.numbers` has them"""
    rows: Sequence[OwnerRow]


class OwnerRows:
    """The sums of a table."""

    def __init__(self, entries: memoryview, owners: memoryview, count: int) -> None:
        """Add up `count` struct flow_entry. `owners`: as many struct flow_owner, or empty: they are all the same."""
        places = 1 << (2 * count).bit_length()
        # with room for a sum per flow, of which only those that are used take memory
        self._sums, numbers = _new_uncleared("struct owner_sum[]", count), array("I", bytes(count * abi.U32.size))
        self._used = lib.xt_sum_owners(
            ffi.from_buffer("struct flow_entry[]", entries),
            ffi.from_buffer("struct flow_owner[]", owners) if owners else ffi.NULL,
            count,
            self._sums,
            ffi.from_buffer("__u32[]", numbers),
            ffi.new("__u32[]", places),
            places,
        )
        self.numbers: Sequence[int] = numbers
        """of each flow, by its index in the table, the index of its row"""

    @cached_property
    def rows(self) -> Sequence[OwnerRow]:
        """All rows, in the order in which they occur."""
        return _rows(self._sums, self._used)

    @cached_property
    def by_place(self) -> Mapping[tuple[int, int], Sequence[OwnerRow]]:
        """Rows by slot and FLOW_EGRESS."""
        places: dict[tuple[int, int], list[OwnerRow]] = {}
        for row in self.rows:
            places.setdefault((row.slot, row.egress), []).append(row)
        return places

    @cached_property
    def ranked(self) -> RankedOwners:
        """Return the owners by their bytes, whatever the interface and direction."""
        return RankedOwners(self._sums, self._used)


class RankedOwners:
    """Owners in order: those that are no processes, of which there are few, then processes, the largest first.

    An owner is read when it is asked for: there may be as many as flows.
    """

    def __init__(self, sums: Any, count: int) -> None:
        """`count` struct owner_sum."""
        self._sums = sums
        self._places = 1 << (2 * count).bit_length()
        self._before, self._index = ffi.new("__u32[]", count), ffi.new("__u32[]", self._places)
        self._ranks = _new_uncleared("struct owner_rank[]", count)
        self._count = lib.xt_rank_owners(sums, count, self._ranks, self._before, self._index, self._places)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rank: int) -> Parts:
        return self._parts(self._ranks[rank].last + 1)

    @cached_property
    def nobodies(self) -> int:
        """How many of the first are no processes."""
        return next((rank for rank in range(self._count) if self._ranks[rank].is_process), self._count)

    def of(self, owner: bytes) -> Parts:
        """Return the rows of a struct flow_owner; none if it carried nothing."""
        found = ffi.from_buffer("struct flow_owner *", owner)
        return self._parts(lib.xt_find_owner(self._sums, found, self._index, self._places))

    def rest(self, first: int) -> Sequence[OwnerRow]:
        """Return what the owners from a rank on carried together, a row per interface and direction."""
        places = ffi.new("struct owner_sum[]", PLACES)
        lib.xt_sum_places(self._sums, self._before, self._ranks + first, self._count - first, places)
        return [row for row in _rows(places, PLACES) if row.flows]

    def _parts(self, following: int) -> Parts:
        numbers = []
        while following:
            numbers.append(following - 1)
            following = self._before[following - 1]
        return Parts(numbers, [row for number in numbers for row in _rows(self._sums + number, 1)])


def _rows(sums: Any, count: int) -> Sequence[OwnerRow]:
    """Read struct owner_sum from a pointer."""
    return [*map(OwnerRow._make, _ROW.iter_unpack(ffi.buffer(sums, count * _ROW.size)))]
