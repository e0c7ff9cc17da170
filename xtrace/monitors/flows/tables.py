"""The two buffers of the packet programs: flip, grace period, drain.

The promise that every packet is counted exactly once is kept here and in csrc/count.h; see
docs/architecture.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from xtrace.errors import XtraceError
from xtrace.kernel import abi, constants
from xtrace.kernel.bpf import Program, check_possible_cpus
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec, ObjectSpec
from xtrace.kernel.features import Features
from xtrace.kernel.loading import Ahead
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import ffi, lib
from xtrace.kernel.xdp_frame import frame_flags
from xtrace.model.filters import Filters, network_key
from xtrace.model.words import Direction
from xtrace.monitors.flows.plan import Plan

if TYPE_CHECKING:
    from xtrace.model.flow import FlowTable, InterfaceCounts, TickClock
    from xtrace.monitors.buffers import Ended
    from xtrace.monitors.flows.stores import FlowStore
    from xtrace.monitors.owners.probe import OwnerProbe
    from xtrace.monitors.paths.follower import TcpFollower

TICK_MASK = 0xFFFFFFFF
FRAGMENT_TIME_NS = 30_000_000_000

CLOCK_MONOTONIC_COARSE = 6
"""Its resolution is one kernel tick (kernel/time/posix-timers.c, KTIME_LOW_RES)."""

NO_FILTERS = Filters()
XDP_PROGRAM = "xdp_ingress"
TC_PROGRAM = "tc_packet"
BESIDE_XDP = "tc_beside_xdp"
"""Asks for the owners of flows that XDP counts."""


def load_object_spec(mapped: bool = True) -> ObjectSpec:
    """The packet programs' object: with flow tables in shared memory, or in hash maps."""
    return load_object("xdp_monitor.o" if mapped else "xdp_monitor_hash.o")


class Place(NamedTuple):
    """Where a packet program is going to be attached."""

    slot: int = 0
    direction: Direction = Direction.INGRESS
    link_layer: int = lib.LINK_LAYER_ETHERNET
    frags: bool = False
    plain: bool = True
    """whether plain frames take the short way (csrc/plain.h), where there are no filters"""
    peer_netns: int | None = None
    """the interface's namespace's number for that of a veth's other end, if that is another one"""
    hides_tags: bool = False
    """whether the interface takes VLAN tags off, so that XDP does not see them"""


ANYWHERE = Place()
"""Of Ethernet, entering."""

Wanted = tuple[str, Place]
"""A program, and where it is going to be attached."""


def counters_index(slot: int, egress: int, buffer: int) -> int:
    """Return the index of an interface's counters (csrc/count.h)."""
    return (slot * 2 + egress) * 2 + buffer


def hash_numbers() -> dict[str, int]:
    """Return what flows are hashed with (csrc/flow_hash.h), two for each word of a key: nobody can guess them."""
    numbers = 2 * ffi.sizeof("struct flow_key") // abi.U64.size
    return {f"hash_{number}": abi.U64.unpack(os.urandom(abi.U64.size))[0] for number in range(numbers)}


class Drained(NamedTuple):
    """The counts of one interval."""

    end_monotonic_ns: int
    flows: FlowTable
    counts: Mapping[tuple[int, Direction], InterfaceCounts]
    """by interface slot and direction"""


class FlowTables:
    """Owns the maps shared by all loads of the packet program, and the programs that user space runs on them."""

    def __init__(
        self, plan: Plan, features: Features, filters: Filters = NO_FILTERS, expected: Iterable[Wanted] = ()
    ) -> None:
        """`expected`: programs that will be asked for, as by expect()."""
        self.plan = plan
        self.features = features
        self._filters = filters
        self.drain_ns = 0
        """duration of the last drain, without the grace period"""
        self._tick_ns = round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9)
        self._hash_numbers = hash_numbers()
        self.owner_probe: OwnerProbe | None = None
        """finds out whose flows are, at tc"""
        self.tcp_follower: TcpFollower | None = None
        """follows TCP connections, at tc"""
        self._shown: FlowTable | None = None
        """the flows of the last interval, in memory that is about to be reused"""
        self._waiting: Ended | None = None
        """the interval that has ended and is not collected yet"""
        self._counted: dict[tuple[int, Direction], InterfaceCounts] = {}
        """what is taken of its counters"""
        with ExitStack() as opening:
            own = opening.enter_context
            mapped = features.cmpxchg
            self._collection = own(Collection(load_object_spec(mapped), self._resize, typed=features.btf))
            self._maps = self._collection.maps
            self._ahead = own(closing(Ahead(self._prepare)))
            self._ahead.expect(expected)
            check_possible_cpus()
            # imported while the kernel verifies what is expected
            from xtrace.monitors.buffers import Switch
            from xtrace.monitors.flows.stores import HashedFlows, MappedFlows

            self._store: FlowStore = (
                MappedFlows(self._maps, plan, own(self.load("complete_entries")))
                if mapped
                else HashedFlows(self._maps, plan)
            )
            opening.callback(self._store.close)
            self._switch = own(Switch(self._maps))
            self._fill_filters()
            self._sampler = own(self.load("sample_clock"))
            self._owned = opening.pop_all()

    def _resize(self, spec: MapSpec) -> MapSpec:
        entries = self._filters.entries()
        return spec._replace(max_entries=entries[spec.name]) if spec.name in entries else self.plan.resize(spec)

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
        self._forget()
        self._owned.close()

    def find_owners(self, cgroups: Cgroups) -> OwnerProbe:
        """Find out whose the flows are from now on: of programs that are loaded after this. Raises XtraceError."""
        if not self.features.cmpxchg:
            raise XtraceError("needs compare-and-swap in BPF (Linux 5.12)")
        from xtrace.monitors.owners.probe import OwnerProbe

        probe = OwnerProbe(self._maps, 2 * self.plan.table_entries, cgroups)
        self._owned.enter_context(probe)
        self._store.owners = probe.owners
        self.owner_probe = probe
        return probe

    def follow_tcp(self, most: int) -> TcpFollower:
        """Follow TCP connections, at most so many, where programs are loaded after this. Raises XtraceError."""
        from xtrace.monitors.paths.follower import TcpFollower

        follower = TcpFollower(self._maps, self.plan.slots, most, typed=self.features.btf)
        self.tcp_follower = self._owned.enter_context(follower)
        return follower

    @property
    def grace_ns(self) -> int:
        """Duration of the last grace period."""
        return self._switch.grace_ns

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """Begin to load these programs in threads; load() returns them when they are there."""
        self._ahead.expect(wanted)

    def expect_nothing(self) -> None:
        """Drop the programs that were expected and not loaded, and wait for their threads."""
        self._ahead.close()

    def load(self, program: str, place: Place = ANYWHERE) -> Program:
        """Load a program on the shared maps, with the constants of this kernel and place.

        Where TCP connections are followed, that of tc is called by another one, which is returned.
        """
        if place.slot >= self.plan.slots:
            raise ValueError(f"slot {place.slot}: the counters have room for {self.plan.slots}")
        if self.owner_probe and program in (TC_PROGRAM, BESIDE_XDP):
            self.owner_probe.watch(place.slot, place.direction.bit, place.peer_netns)
        loaded = self._ahead.take((program, place))
        if self.tcp_follower is None or program != TC_PROGRAM:
            return loaded
        with loaded:
            where = place.slot * 2 + place.direction.bit
            return self.tcp_follower.load(where, loaded, self._constants(program, place))

    def _prepare(self, wanted: Wanted) -> Callable[[], Program]:
        program, place = wanted
        is_tc = self._collection.spec.programs[program].section == "tc"
        values = self._constants(program, place)
        flags = frame_flags() if place.frags else None
        if flags:
            values.update(frame_flags=flags.offset, frags_flag=flags.frags)
        return self._collection.prepare(
            program,
            values,
            prog_type=constants.PROG_TYPE_SCHED_CLS if is_tc else constants.PROG_TYPE_XDP,
            attach_type=0 if is_tc else constants.ATTACH_TYPE_XDP,
            flags=constants.PROG_HAS_FRAGS if place.frags else 0,
            functions=flags.functions if flags else {},
        )

    def _constants(self, program: str, place: Place) -> dict[str, int]:
        return {
            "interface_slot": place.slot,
            "is_egress": place.direction.bit,
            "link_layer": place.link_layer,
            "has_frags": place.frags,
            "reads_plain": self._reads_plain(place),
            "plain_place": place.slot | place.direction.bit << 16,
            "is_realtime": self.features.realtime,
            "knows_ipsec": self.features.ipsec,
            "own_counters": counters_index(place.slot, place.direction.bit, 0),
            "keeps_recent": self.plan.recent_cpus > 0 and not self.features.realtime,
            "recent_mask": self.plan.recent_flows - 1,
            "max_flows": self.plan.max_flows,
            "table_entries": self.plan.table_entries,
            "number_mask": self.plan.number_mask,
            "index_places": self.plan.index_places,
            "index_mask": self.plan.index_places - 1,
            "fragment_ticks": FRAGMENT_TIME_NS // self._tick_ns,
            "may_hide_tags": place.hides_tags,
            "names_owners": self.owner_probe is not None and program == TC_PROGRAM,
            **self._hash_numbers,
            **self._filters.constants(),
        }

    def _reads_plain(self, place: Place) -> bool:
        """Whether plain frames take the short way: their flow is their own, and no filter looks at it."""
        return place.plain and place.link_layer == lib.LINK_LAYER_ETHERNET and self._filters == NO_FILTERS

    def memory(self) -> int:
        """Kernel memory of the maps in bytes, as reported by the kernel."""
        probe = self.owner_probe.memory() if self.owner_probe else 0
        return self._collection.memory() + probe + (self.tcp_follower.memory() if self.tcp_follower else 0)

    def clock(self) -> TickClock:
        """The kernel's tick and CLOCK_MONOTONIC now."""
        from xtrace.model.flow import TickClock

        (tick,) = abi.U64.unpack_from(self._sampler.test_run(bytes(16)).frame)
        return TickClock(tick & TICK_MASK, time.monotonic_ns(), self._tick_ns)

    def flip(self, last: bool = False) -> Ended:
        """End the interval of the active buffer, of both if it is the last one; collect() reads what it left.

        The flows that collect() returned before are gone then. What it could not return is lost, but in no other
        interval.
        """
        if self._waiting:
            self.collect(self._waiting)
        self._forget()
        self._store.reuse(self._switch.inactive)
        self._waiting = self._switch.finish() if last else self._switch.flip()
        return self._waiting

    def _forget(self) -> None:
        if self._shown is not None:
            self._shown.release()

    def wait_grace_period(self) -> None:
        """Return when all programs running now have ended."""
        self._switch.wait_grace_period()

    def collect(self, interval: Ended) -> Drained:
        """Empty the buffers of an interval that has ended, before the next one ends. May be repeated if it fails."""
        begun = time.monotonic_ns()
        flows = self._store.collect(interval.buffers)
        self._shown = flows
        self._take_counters(interval.buffers)
        counts, self._counted, self._waiting = self._counted, {}, None
        self.drain_ns = time.monotonic_ns() - begun
        return Drained(interval.monotonic_ns, flows, counts)

    def _take_counters(self, buffers: Sequence[int]) -> None:
        """Read and zero the inactive counters."""
        from xtrace.model.flow import InterfaceCounts

        counters = self._maps["counters"]
        directions = tuple(Direction)
        for index, element in enumerate(counters.lookup_all(self.features.percpu_batch)):
            place, buffer = divmod(index, 2)
            if buffer not in buffers or element.count(0) == len(element):
                continue
            counters.update(abi.U32.pack(index), bytes(len(element)))
            where = (place // 2, directions[place % 2])
            self._counted[where] = self._counted.get(where, InterfaceCounts()) + InterfaceCounts.from_per_cpu(element)
