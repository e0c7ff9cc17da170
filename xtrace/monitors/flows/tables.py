"""The two flow tables and their front caches: flip, grace period, flush, drain.

The promise that every packet is counted exactly once is kept here and in csrc/count.h; see
docs/architecture.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from xtrace.kernel import abi, constants
from xtrace.kernel.bpf import BATCH_MARGIN, Batch, Program, check_possible_cpus, possible_cpus
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec, ObjectSpec
from xtrace.kernel.features import Features
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.filters import Filters, network_key
from xtrace.model.flow import COUNTERS, KEY, FlowTable, InterfaceCounts
from xtrace.model.words import Direction
from xtrace.monitors.buffers import Ended, Switch, Table

log = logging.getLogger(__name__)

MEMORY_LIMIT = 64 << 20
"""Default limit for all maps together, in bytes; the front cache shrinks to fit."""

CLOCK_MONOTONIC_COARSE = 6
"""Its resolution is one kernel tick (kernel/time/posix-timers.c, KTIME_LOW_RES)."""

NO_FILTERS = Filters()

_FLUSH_REQUEST = abi.layout("struct flush_request", "buffer", "next")
_HASH_ELEMENT_OVERHEAD = 48
"""sizeof(struct htab_elem), kernel/bpf/hashtab.c"""
_HASH_BUCKET = 16
LEAST_CACHE_ENTRIES = 256


def load_object_spec() -> ObjectSpec:
    """The packet program's object."""
    return load_object("xdp_monitor.o")


@dataclass(frozen=True)
class Plan:
    """Sizes of the maps."""

    max_flows: int
    slots: int
    cpus: int
    """CPU numbers are below this"""
    cache_entries: int
    """of one CPU's front cache"""

    @classmethod
    def make(cls, max_flows: int, slots: int = 1) -> Plan:
        """Fit the front cache, per CPU and a power of two, into the memory that the flow tables leave.

        Larger tables than the default may exceed the limit; the cache then keeps a useful size.
        """
        least = LEAST_CACHE_ENTRIES if max_flows > lib.DEFAULT_MAX_FLOWS else 1
        cpus = max(possible_cpus()) + 1
        plan = cls(max_flows, slots, cpus, lib.FRONT_CACHE_ENTRIES)
        while plan.memory() > MEMORY_LIMIT and plan.cache_entries > least:
            plan = replace(plan, cache_entries=plan.cache_entries // 2)
        return plan

    def memory(self) -> int:
        """Memory of the maps in bytes."""
        buckets = 1 << (self.max_flows - 1).bit_length()
        table = self.max_flows * (_HASH_ELEMENT_OVERHEAD + KEY.size + COUNTERS.size) + buckets * _HASH_BUCKET
        cache = self.cpus * self.cache_entries * ffi.sizeof("struct cache_entry")
        counters = self.slots * 2 * self.cpus * ffi.sizeof("struct interface_counters")
        return 2 * (table + cache + counters)

    def resize(self, spec: MapSpec) -> MapSpec:
        """`spec` with this plan's number of entries."""
        entries = {
            "flows_a": self.max_flows,
            "flows_b": self.max_flows,
            "front_cache": 2 * self.cpus * self.cache_entries,
            "counters": 2 * self.slots * 2,
        }
        return replace(spec, max_entries=entries.get(spec.name, spec.max_entries))


@dataclass(frozen=True)
class Place:
    """Where a packet program is going to be attached."""

    slot: int = 0
    direction: Direction = Direction.INGRESS
    link_layer: int = lib.LINK_LAYER_ETHERNET
    frags: bool = False


@dataclass(frozen=True)
class Drained:
    """The counts of one interval."""

    end_monotonic_ns: int
    flows: FlowTable
    counts: Mapping[tuple[int, Direction], InterfaceCounts]
    """by interface slot and direction"""


class FlowTables:
    """Owns the maps shared by all loads of the packet program, and the programs that user space runs on them."""

    def __init__(self, plan: Plan, features: Features, filters: Filters = NO_FILTERS) -> None:
        self.plan = plan
        self.features = features
        self._filters = filters
        self.drain_ns = 0
        """duration of the last drain, without the grace period"""
        self._batch = Batch(KEY.size, COUNTERS.size, plan.max_flows + BATCH_MARGIN)
        self._jiffy_ns = round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9)
        self._jiffies_base = 0
        check_possible_cpus()
        with ExitStack() as opening:
            own = opening.enter_context
            self._collection = own(Collection(load_object_spec(), self._resize, typed=features.btf))
            self._maps = self._collection.maps
            self._tables: tuple[Table, Table] = self._maps["flows_a"], self._maps["flows_b"]
            self._switch = own(Switch(self._maps))
            self._fill_filters()
            self._clock = own(self.load("sample_clock"))
            self._jiffies_base = -self.clock_offset() // self._jiffy_ns
            self._flush = own(self.load("flush_cache"))
            self._owned = opening.pop_all()

    def _resize(self, spec: MapSpec) -> MapSpec:
        entries = self._filters.entries()
        return replace(spec, max_entries=entries[spec.name]) if spec.name in entries else self.plan.resize(spec)

    def _fill_filters(self) -> None:
        """Fill the filters' maps, which stay constant afterwards."""
        for name, networks in (
            ("networks", self._filters.networks),
            ("excluded_networks", self._filters.excluded_networks),
        ):
            for network in networks:
                self._maps[name].update(network_key(network), b"\1")
        for index, word in self._filters.port_words().items():
            self._maps["ports"].update(abi.U32.pack(index), abi.U64.pack(word))

    def close(self) -> None:
        """Release all maps and programs."""
        self._owned.close()

    @property
    def grace_ns(self) -> int:
        """Duration of the last grace period."""
        return self._switch.grace_ns

    def load(self, program: str, place: Place = Place()) -> Program:
        """Load a program on the shared maps, with the constants of this kernel and place."""
        if place.slot >= self.plan.slots:
            raise ValueError(f"slot {place.slot}: the counters have room for {self.plan.slots}")
        values = {
            "interface_slot": place.slot,
            "is_egress": place.direction.bit,
            "link_layer": place.link_layer,
            "has_frags": place.frags,
            "is_realtime": self.features.realtime,
            "knows_ipsec": self.features.ipsec,
            "slots": self.plan.slots,
            "possible_cpus": self.plan.cpus,
            "cache_entries": self.plan.cache_entries,
            "jiffy_ns": self._jiffy_ns,
            "jiffies_base": self._jiffies_base,
            **self._filters.constants(),
        }
        is_tc = self._collection.spec.programs[program].section == "tc"
        return self._collection.load(
            program,
            values,
            prog_type=constants.PROG_TYPE_SCHED_CLS if is_tc else constants.PROG_TYPE_XDP,
            attach_type=0 if is_tc else constants.ATTACH_TYPE_XDP,
            flags=constants.PROG_HAS_FRAGS if place.frags else 0,
        )

    def memory(self) -> int:
        """Kernel memory of the shared maps in bytes, as reported by the kernel."""
        return self._collection.memory()

    def clock_offset(self) -> int:
        """The offset in ns from a record's times to CLOCK_MONOTONIC, accurate to one kernel tick."""
        (sample,) = abi.U64.unpack_from(self._clock.test_run(bytes(16)).frame)
        return time.monotonic_ns() - int(sample) + self._jiffies_base * self._jiffy_ns

    def flip(self, last: bool = False) -> Ended:
        """End the interval of the active buffer, of both if it is the last one; collect() reads what it left."""
        return self._switch.finish() if last else self._switch.flip()

    def wait_grace_period(self) -> None:
        """Return when all programs running now have ended."""
        self._switch.wait_grace_period()

    def collect(self, interval: Ended) -> Drained:
        """Empty the buffers of an interval that has ended, before the next one ends."""
        begun = time.monotonic_ns()
        self._batch.count = 0
        drained = []
        for buffer in interval.buffers:
            self._flush_cache(buffer)
            drained.append(self._tables[buffer].drain_into(self._batch))
        if len(drained) > 1 and all(drained):
            merge_duplicates(self._batch)
        counts = self._take_counters(interval.buffers)
        keys, values = memoryview(ffi.buffer(self._batch.keys)), memoryview(ffi.buffer(self._batch.values))
        self.drain_ns = time.monotonic_ns() - begun
        return Drained(interval.monotonic_ns, FlowTable(keys, values, self._batch.count), counts)

    def _flush_cache(self, buffer: int) -> None:
        if self.features.realtime:
            return  # the packet program did not use it
        entries = self.plan.cpus * self.plan.cache_entries
        repeat = -(-entries // lib.FLUSH_ENTRIES)
        self._flush.test_run(_FLUSH_REQUEST.pack(buffer, 0), repeat=repeat)

    def _take_counters(self, buffers: Sequence[int]) -> dict[tuple[int, Direction], InterfaceCounts]:
        """Read and zero the inactive counters."""
        per_buffer = 2 * self.plan.slots
        taken: dict[tuple[int, Direction], InterfaceCounts] = {}
        counters = self._maps["counters"]
        directions = tuple(Direction)
        for index, element in enumerate(counters.lookup_all(self.features.percpu_batch)):
            buffer, place = divmod(index, per_buffer)
            if buffer not in buffers or element.count(0) == len(element):
                continue
            counters.update(abi.U32.pack(index), bytes(len(element)))
            where = (place // 2, directions[place % 2])
            taken[where] = taken.get(where, InterfaceCounts()) + InterfaceCounts.from_per_cpu(element)
        return taken


def merge_duplicates(batch: Batch) -> None:
    """Add up the entries of `batch` with the same key, so that every flow occurs once."""
    places: dict[bytes, int] = {}
    keys, values = memoryview(ffi.buffer(batch.keys)), memoryview(ffi.buffer(batch.values))
    for index in range(batch.count):
        key = bytes(keys[index * KEY.size : (index + 1) * KEY.size])
        counters = COUNTERS.unpack_from(values, index * COUNTERS.size)
        place = places.get(key)
        if place is None:
            place = places[key] = len(places)
            keys[place * KEY.size : (place + 1) * KEY.size] = key
        else:
            packets, size, first, last, flags = COUNTERS.unpack_from(values, place * COUNTERS.size)
            counters = (
                packets + counters[0],
                size + counters[1],
                min(first, counters[2]),
                max(last, counters[3]),
                flags | counters[4],
            )
        COUNTERS.pack_into(values, place * COUNTERS.size, *counters)
    batch.count = len(places)
