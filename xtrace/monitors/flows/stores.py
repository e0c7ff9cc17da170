"""Where the packet programs keep the flows of an interval: in shared memory, or in hash maps on older kernels.

Both have two buffers. collect() returns the flows of buffers that no program writes to any more; reuse() makes such a
buffer empty, before programs write to it again. See csrc/table_mapped.h, csrc/table_hash.h.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from errno import EIO
from typing import Any, NamedTuple, Protocol

from xtrace.errors import KernelError
from xtrace.kernel import abi
from xtrace.kernel.bpf import BATCH_MARGIN, Batch, Map, Program, SharedMemory, new_uncleared
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow import COUNTERS, ENTRY, KEY, NO_OWNERS, Entries, FlowTable, Window
from xtrace.model.flow_owners import OWNER
from xtrace.model.owner_rows import PLACES
from xtrace.monitors.flows.plan import ENTRIES_IN_PAGES, Plan

_NOTHING_CLAIMED = bytes(ffi.sizeof("struct claimed"))
BATCH = 4096
"""Flows that a hash map returns at once."""
WINDOW = 21_845 // ENTRIES_IN_PAGES * ENTRIES_IN_PAGES
"""Flows of shared memory that are mapped at once: whole pages, at most 2 MiB, with owners 3."""


class FlowStore(Protocol):
    """The flows of both buffers."""

    owners: Map | None
    """of the flows, by the same index; None: they are not asked for"""

    def collect(self, buffers: Sequence[int]) -> FlowTable:
        """Return each flow of these buffers once. It is valid until one of them is reused, or close().

        If it fails, it may be called again and returns all of them.
        """

    def reuse(self, buffer: int) -> None:
        """Empty a collected buffer."""

    def close(self) -> None:
        """Release memory and mappings."""


class Recent:
    """The flows that each CPU saw lately."""

    def __init__(self, recent: Map, plan: Plan) -> None:
        self._blocks = 2 * plan.recent_cpus
        """by CPU and buffer"""
        self.places = self._blocks // 2 * lib.RECENT_FLOWS
        """of one buffer"""
        self._owned = ExitStack()
        if self._blocks:
            size = self._blocks * lib.RECENT_FLOWS * ffi.sizeof("struct recent_flow")
            address = self._owned.enter_context(SharedMemory(recent, size)).address
            self._flows = ffi.cast("struct recent_flow *", address)

    def of(self, buffer: int) -> Iterator[Any]:
        """Yield the RECENT_FLOWS places of each CPU, a struct recent_flow *."""
        for block in range(buffer, self._blocks, 2):
            yield self._flows + block * lib.RECENT_FLOWS

    def close(self) -> None:
        """Unmap."""
        self._owned.close()


class MappedEntries:
    """The flows of one buffer where they lie, mapped in windows; all of them only when they are asked for."""

    def __init__(self, flows: Map, owners: Map | None, first: int, count: int) -> None:
        """`count` flows from entry `first` of the maps on."""
        self._flows, self._owners, self._first, self._count = flows, owners, first, count
        self._whole: dict[str, SharedMemory] = {}

    def window(self, index: int) -> Window:
        """Map a flow and what lies beside it."""
        first = index - index % WINDOW
        with ExitStack() as opening:
            count = min(WINDOW, self._count - first)
            entries = opening.enter_context(self._map(self._flows, ENTRY.size, first, count)).view()
            owners = NO_OWNERS
            if self._owners:
                owners = opening.enter_context(self._map(self._owners, OWNER.size, first, count)).view()
            return Window(first, entries, owners, opening.pop_all().close)

    def all_entries(self) -> memoryview:
        """Map the entries, until close()."""
        return self._map_whole(self._flows, ENTRY.size)

    def all_owners(self) -> memoryview:
        """Map the owners, until close()."""
        return self._map_whole(self._owners, OWNER.size) if self._owners else NO_OWNERS

    def _map_whole(self, of: Map, size: int) -> memoryview:
        name = of.spec.name
        if name not in self._whole:
            self._whole[name] = self._map(of, size, 0, self._count)
        return self._whole[name].view()

    def _map(self, of: Map, size: int, first: int, count: int) -> SharedMemory:
        return SharedMemory(of, count * size, (self._first + first) * size)

    def close(self) -> None:
        """Unmap what is mapped, except for windows."""
        while self._whole:
            self._whole.popitem()[1].close()


def find_unused(window: Window) -> array[int]:
    """Return the indexes of entries without packets."""
    entries, first, count = window.pieces()
    found = array("I", bytes(count * abi.U32.size))
    used = lib.xt_find_unused(entries, first, count, ffi.from_buffer("__u32[]", found))
    return found[:used]


def close_gaps(entries: Entries, unused: Sequence[int], count: int) -> None:
    """Move the last of `count` flows to where entries were taken for nothing."""
    left = count - len(unused)
    gaps = [index for index in unused if index < left]
    last = sorted(set(range(left, count)).difference(unused))
    to = source = Window(0, memoryview(b""))
    try:
        for gap, index in zip(gaps, last, strict=True):  # both ascend
            if gap not in to:
                to.close()
                to = entries.window(gap)
            if index not in source:
                source.close()
                source = entries.window(index)
            source.move(index, to, gap)
    finally:
        to.close()
        source.close()


class Settled(NamedTuple):
    """A buffer whose entries are complete, and whose index is free."""

    flows: int
    sums: Any = None
    """by place, a struct place_sum *, if they are known"""


class MappedFlows:
    """Flows in shared memory, returned from where they lie."""

    owners: Map | None = None

    def __init__(self, maps: Mapping[str, Map], plan: Plan, complete: Program) -> None:
        """`complete`: the program complete_entries."""
        self._plan, self._complete = plan, complete
        self._flows = maps["flows"]
        self._shown: dict[int, MappedEntries] = {}
        """what collect() returned, by buffer"""
        self._settled: dict[int, Settled] = {}
        """by buffer"""
        self._last: FlowTable | None = None
        """what the last interval left, in both buffers"""
        with ExitStack() as opening:
            self._recent = Recent(maps["recent"], plan)
            opening.callback(self._recent.close)
            claims = opening.enter_context(SharedMemory(maps["claims"], 2 * ffi.sizeof("struct claimed")))
            self._claims = ffi.cast("struct claimed *", claims.address)
            self._owned = opening.pop_all()

    def collect(self, buffers: Sequence[int]) -> FlowTable:
        """Return the flows where they lie; those of two buffers, or of the last owners, in memory of their own."""
        if self._last is not None:
            return self._last
        found = [buffer for buffer in buffers if self._settle(buffer).flows]
        tables = [self._table(buffer) for buffer in found]
        if len(buffers) == 1:
            return tables[0] if tables else joined(())
        self._last = tables[0] if len(tables) == 1 and not self.owners else joined(tables)
        for buffer in buffers:
            self._free(buffer)
        return self._last

    def _table(self, buffer: int) -> FlowTable:
        settled = self._settled[buffer]
        self._hide(buffer)
        self._shown[buffer] = self._entries(buffer, settled.flows)
        return FlowTable.where(self._shown[buffer], settled.flows, settled.sums)

    def _hide(self, buffer: int) -> None:
        if buffer in self._shown:
            self._shown.pop(buffer).close()

    def _entries(self, buffer: int, count: int) -> MappedEntries:
        return MappedEntries(self._flows, self.owners, buffer * self._plan.table_entries, count)

    def _taken(self, buffer: int) -> int:
        """Entries of a buffer that were taken."""
        return min(int(self._claims[buffer].entries), self._plan.max_flows)

    def _settle(self, buffer: int) -> Settled:
        """Complete the entries of a buffer and free its index.

        If it fails, it may be called again: what is added to an entry is free in the same moment, in the index as
        among the recent flows, and an entry that was moved is one that was taken for nothing.
        """
        if buffer not in self._settled:
            self._settled[buffer] = self._settle_now(buffer, self._taken(buffer))
        return self._settled[buffer]

    def _settle_now(self, buffer: int, taken: int) -> Settled:
        if not taken:
            return Settled(0)
        self._complete_entries(buffer, taken)
        entries = self._entries(buffer, taken)
        sums, unused = ffi.new("struct place_sum[]", PLACES), array("I")
        for window in FlowTable.where(entries, taken).windows():
            pieces = window.pieces()
            for recent in self._recent.of(buffer):
                lib.xt_add_recent(*pieces, recent)
            lib.xt_sum_flows(*pieces, sums)
            if self._claims[buffer].unused:
                unused.extend(find_unused(window))
        close_gaps(entries, unused, taken)
        return Settled(taken - len(unused), sums if not unused else None)

    def _complete_entries(self, buffer: int, count: int) -> None:
        """Have what owners counted in the index added to the entries."""
        frame = bytes(ffi.buffer(ffi.new("struct completion *", {"buffer": buffer, "end": count})))
        result = self._complete.test_run(frame, repeat=-(-count // lib.COMPLETED_AT_ONCE))
        completed = ffi.from_buffer("struct completion *", result.frame).next if result.frame else 0
        if completed != count:
            raise KernelError(f"program {self._complete.name}: {completed} of {count} flows completed", EIO)

    def reuse(self, buffer: int) -> None:
        """Clear what was used. Entries are not: who takes one writes all of it."""
        self._last = None
        if buffer in self._settled:
            self._hide(buffer)
            self._free(buffer)

    def _free(self, buffer: int) -> None:
        """Let all of its entries be taken again."""
        taken = self._taken(buffer)
        if taken and self.owners:
            for window in FlowTable.where(self._entries(buffer, taken), taken).windows():
                lib.xt_clear(ffi.from_buffer(window.owners), len(window.owners))
        ffi.memmove(self._claims + buffer, _NOTHING_CLAIMED, len(_NOTHING_CLAIMED))
        del self._settled[buffer]

    def close(self) -> None:
        """Unmap everything."""
        for shown in self._shown.values():
            shown.close()
        self._shown.clear()
        self._owned.close()


class HashedFlows:
    """Flows in hash maps, moved to memory of their own by batches of system calls."""

    owners: Map | None = None

    def __init__(self, maps: Mapping[str, Map], plan: Plan) -> None:
        self._tables = maps["flows_a"], maps["flows_b"]
        self._batch = Batch(KEY.size, COUNTERS.size, min(plan.max_flows, BATCH) + BATCH_MARGIN)
        self._recent = Recent(maps["recent"], plan)
        self._entries = new_uncleared("struct flow_entry[]", 2 * (plan.max_flows + self._recent.places))
        self._taken = 0
        """entries that hold flows of the interval"""

    def collect(self, buffers: Sequence[int]) -> FlowTable:
        """Empty the maps, and add what the CPUs saw lately."""
        for buffer in buffers:
            for keys, values, count in self._tables[buffer].drain(self._batch):
                columns = ffi.cast("struct flow_key *", keys), ffi.cast("struct flow_counters *", values)
                lib.xt_from_batch(self._entries + self._taken, *columns, count)
                self._taken += count
            for recent in self._recent.of(buffer):
                self._taken += lib.xt_take_recent(self._entries + self._taken, recent)
        table = merged(self._entries, self._taken, ffi.NULL)
        self._taken = len(table)
        return table

    def reuse(self, buffer: int) -> None:
        """Forget the flows that collecting has moved."""
        self._taken = 0

    def close(self) -> None:
        """Unmap."""
        self._recent.close()


def joined(tables: Sequence[FlowTable]) -> FlowTable:
    """Return the flows of all tables, each once, in memory of their own."""
    entries, owners = bytearray(), bytearray()
    for table in tables:
        copy = table.copy()
        entries += copy.entries
        owners += copy.owners
    count = len(entries) // ENTRY.size
    owned = ffi.from_buffer("struct flow_owner[]", owners) if owners else ffi.NULL
    return merged(ffi.from_buffer("struct flow_entry[]", entries), count, owned)


def merged(entries: Any, count: int, owners: Any) -> FlowTable:
    """Return the first `count` of the entries, a struct flow_entry *, as a table in which every flow occurs once.

    `owners`: by the same index, a struct flow_owner *; NULL if there are none.
    """
    places = 1 << (2 * count).bit_length()
    count = lib.xt_merge_flows(entries, owners, count, ffi.new("__u32[]", places), places)
    view = memoryview(ffi.buffer(owners, count * OWNER.size)) if owners else NO_OWNERS
    return FlowTable(memoryview(ffi.buffer(entries, count * ENTRY.size)), count, view)
