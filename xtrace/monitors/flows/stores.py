"""Where the packet programs keep the flows of an interval: in shared memory, or in hash maps on older kernels.

Both have two buffers. collect() returns the flows of buffers that no program writes to any more; reuse() makes such a
buffer empty, before programs write to it again. See csrc/table_mapped.h, csrc/table_hash.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from xtrace.kernel.bpf import BATCH_MARGIN, Batch, Map, SharedMemory, new_uncleared
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow import COUNTERS, ENTRY, KEY, NO_OWNERS, FlowTable
from xtrace.model.flow_owners import OWNER
from xtrace.monitors.flows.plan import Plan

_NOTHING_CLAIMED = bytes(ffi.sizeof("struct claimed"))
BATCH = 4096
"""Flows that a hash map returns at once."""


class FlowStore(Protocol):
    """The flows of both buffers."""

    owners: Map | None
    """of the flows, by the same index; None: they are not asked for"""

    def collect(self, buffers: Sequence[int]) -> FlowTable:
        """Return each flow of these buffers once. It is valid until one of them is reused, or close()."""

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


class MappedFlows:
    """Flows in shared memory, returned from where they lie. Only as much is mapped as is used."""

    owners: Map | None = None

    def __init__(self, maps: Mapping[str, Map], plan: Plan) -> None:
        self._plan = plan
        self._flows, self._index = maps["flows"], maps["flow_index"]
        self._mapped: dict[int, SharedMemory] = {}
        self._mapped_owners: dict[int, SharedMemory] = {}
        with ExitStack() as opening:
            self._recent = Recent(maps["recent"], plan)
            opening.callback(self._recent.close)
            claims = opening.enter_context(SharedMemory(maps["claims"], 2 * ffi.sizeof("struct claimed")))
            self._claims = ffi.cast("struct claimed *", claims.address)
            self._owned = opening.pop_all()

    def collect(self, buffers: Sequence[int]) -> FlowTable:
        """Return the flows where they lie; those of two buffers together in memory of their own."""
        counts = [self._settle(buffer) for buffer in buffers]
        if len(buffers) == 1:
            (buffer,) = buffers
            owners = self._mapped_owners.get(buffer)
            view = self._mapped[buffer].view() if counts[0] else memoryview(b"")
            return FlowTable(view, counts[0], owners.view() if owners else NO_OWNERS)
        entries = new_uncleared("struct flow_entry[]", sum(counts))
        owned = new_uncleared("struct flow_owner[]", sum(counts)) if self.owners else ffi.NULL
        end = 0
        for buffer, count in zip(buffers, counts, strict=True):
            if count:
                ffi.memmove(entries + end, self._mapped[buffer].address, count * ENTRY.size)
                if owned:
                    ffi.memmove(owned + end, self._mapped_owners[buffer].address, count * OWNER.size)
            end += count
            self.reuse(buffer)
        return merged(entries, end, owned)

    def _settle(self, buffer: int) -> int:
        """Map the entries of a buffer and complete them; return their number."""
        claimed = self._claims[buffer]
        count = min(int(claimed.entries), self._plan.max_flows)
        if count:
            size, first = ENTRY.size, buffer * self._plan.table_entries
            self._mapped[buffer] = SharedMemory(self._flows, count * size, first * size)
            entries = ffi.cast("struct flow_entry *", self._mapped[buffer].address)
            owners = self._map_owners(buffer, count)
            self._add_owned(entries, count, buffer)
            for recent in self._recent.of(buffer):
                lib.xt_add_recent(entries, count, recent)
            if claimed.unused:
                count = int(lib.xt_drop_unused(entries, owners, count))
        return count

    def _map_owners(self, buffer: int, count: int) -> Any:
        """Map the owners of a buffer's flows; a struct flow_owner *, NULL if there are none."""
        if self.owners is None:
            return ffi.NULL
        first = buffer * self._plan.table_entries * OWNER.size
        mapped = self._mapped_owners[buffer] = SharedMemory(self.owners, count * OWNER.size, first)
        return ffi.cast("struct flow_owner *", mapped.address)

    def _add_owned(self, entries: Any, count: int, buffer: int) -> None:
        """Add what the owners of flows counted, which is in the index; it is empty then."""
        size = self._plan.index_bytes
        with SharedMemory(self._index, size, buffer * size) as index:
            places = ffi.cast("struct index_place *", index.address)
            lib.xt_add_owned(entries, count, places, self._plan.index_places)

    def reuse(self, buffer: int) -> None:
        """Clear what was used."""
        entries = self._mapped.pop(buffer, None)
        if entries is None:
            return
        for mapped in filter(None, (entries, self._mapped_owners.pop(buffer, None))):
            with mapped:
                mapped.clear()
        ffi.memmove(self._claims + buffer, _NOTHING_CLAIMED, len(_NOTHING_CLAIMED))

    def close(self) -> None:
        """Unmap everything."""
        for mapped in (*self._mapped.values(), *self._mapped_owners.values()):
            mapped.close()
        self._mapped.clear()
        self._mapped_owners.clear()
        self._owned.close()


class HashedFlows:
    """Flows in hash maps, moved to memory of their own by batches of system calls."""

    owners: Map | None = None

    def __init__(self, maps: Mapping[str, Map], plan: Plan) -> None:
        self._tables = maps["flows_a"], maps["flows_b"]
        self._batch = Batch(KEY.size, COUNTERS.size, min(plan.max_flows, BATCH) + BATCH_MARGIN)
        self._recent = Recent(maps["recent"], plan)
        self._entries = new_uncleared("struct flow_entry[]", 2 * (plan.max_flows + self._recent.places))

    def collect(self, buffers: Sequence[int]) -> FlowTable:
        """Empty the maps, and add what the CPUs saw lately."""
        end = 0
        for buffer in buffers:
            for keys, values, count in self._tables[buffer].drain(self._batch):
                columns = ffi.cast("struct flow_key *", keys), ffi.cast("struct flow_counters *", values)
                lib.xt_from_batch(self._entries + end, *columns, count)
                end += count
            for recent in self._recent.of(buffer):
                end += lib.xt_take_recent(self._entries + end, recent)
        return merged(self._entries, end, ffi.NULL)

    def reuse(self, buffer: int) -> None:
        """Do nothing: collecting has emptied it."""

    def close(self) -> None:
        """Unmap."""
        self._recent.close()


def merged(entries: Any, count: int, owners: Any) -> FlowTable:
    """Return the first `count` of the entries, a struct flow_entry *, as a table in which every flow occurs once.

    `owners`: by the same index, a struct flow_owner *; NULL if there are none.
    """
    places = 1 << (2 * count).bit_length()
    count = lib.xt_merge_flows(entries, owners, count, ffi.new("__u32[]", places), places)
    view = memoryview(ffi.buffer(owners, count * OWNER.size)) if owners else NO_OWNERS
    return FlowTable(memoryview(ffi.buffer(entries, count * ENTRY.size)), count, view)
