"""Sizes of the packet programs' maps."""

from __future__ import annotations

import mmap
from typing import NamedTuple

from xtrace.kernel.bpf import possible_cpus
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.syscall import ffi, lib

MEMORY_LIMIT = 64 << 20
"""Default limit for all maps together, in bytes; fewer CPUs keep recent flows if they do not fit."""

_HASH_ELEMENT_OVERHEAD = 48
"""sizeof(struct htab_elem), kernel/bpf/hashtab.c"""
_HASH_BUCKET = 16
_ENTRY, _PLACE = ffi.sizeof("struct flow_entry"), ffi.sizeof("struct index_place")
_KEY, _COUNTERS = ffi.sizeof("struct flow_key"), ffi.sizeof("struct flow_counters")
_RECENT_OF_CPU = 2 * lib.RECENT_FLOWS * ffi.sizeof("struct recent_flow")

ENTRIES_IN_PAGES = mmap.PAGESIZE // 16
"""So many flows, of 96 bytes, and their owners, of 48, fill whole pages."""


class Plan(NamedTuple):
    """Sizes of the maps."""

    max_flows: int
    slots: int
    cpus: int
    """CPU numbers are below this"""
    recent_cpus: int
    """those of them that keep recent flows are below this"""
    recent_flows: int = lib.RECENT_FLOWS
    """that each of these uses, of each buffer; a power of two"""

    @classmethod
    def make(cls, max_flows: int, slots: int = 1, cpus: int = 0) -> Plan:
        """Let as many CPUs keep recent flows as fit into the memory that the rest leaves; all, if there is none left.

        Larger tables than the default may exceed the limit. `cpus`: 0 is as many as this machine may have.
        """
        cpus = cpus or max(possible_cpus()) + 1
        left = MEMORY_LIMIT - cls(max_flows, slots, cpus, 0).memory()
        if max_flows > lib.DEFAULT_MAX_FLOWS:
            left = MEMORY_LIMIT
        return cls(max_flows, slots, cpus, max(0, min(cpus, left // _RECENT_OF_CPU)))

    @property
    def table_entries(self) -> int:
        """Entries of one buffer in shared memory: whole pages."""
        return -(-self.max_flows // ENTRIES_IN_PAGES) * ENTRIES_IN_PAGES

    @property
    def index_places(self) -> int:
        """Places of one buffer's index: a power of two, at most half of them used; whole pages."""
        return max(1 << (2 * self.max_flows - 1).bit_length(), mmap.PAGESIZE // _PLACE)

    @property
    def index_bytes(self) -> int:
        """Bytes of one buffer's index."""
        return self.index_places * _PLACE

    @property
    def number_mask(self) -> int:
        """Bits of a word of the index that hold the number of an entry, which is at least 1."""
        return (1 << self.max_flows.bit_length()) - 1

    def memory(self, mapped: bool = True) -> int:
        """Memory of the maps in bytes, with flows in shared memory or in hash maps."""
        if mapped:
            table = self.table_entries * _ENTRY + self.index_bytes + ffi.sizeof("struct claimed")
        else:
            buckets = 1 << (self.max_flows - 1).bit_length()
            table = self.max_flows * (_HASH_ELEMENT_OVERHEAD + _KEY + _COUNTERS) + buckets * _HASH_BUCKET
        counters = self.slots * 2 * self.cpus * ffi.sizeof("struct interface_counters")
        return 2 * (table + counters) + self.recent_cpus * _RECENT_OF_CPU

    def resize(self, spec: MapSpec) -> MapSpec:
        """`spec` with this plan's number of entries."""
        entries = {
            "flows": 2 * self.table_entries,
            "flow_index": 2 * self.index_places,
            "flows_a": self.max_flows,
            "flows_b": self.max_flows,
            "recent": max(self.recent_cpus * 2 * lib.RECENT_FLOWS, 1),
            "counters": 2 * self.slots * 2,
            "owner_programs": 2 * self.slots,
        }
        return spec._replace(max_entries=entries.get(spec.name, spec.max_entries))
