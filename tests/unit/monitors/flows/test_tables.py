"""Two flow tables on a played kernel: how large, flipped and drained in which order, and nothing left open."""

from __future__ import annotations

import errno
import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.fake_kernel import FIRST_FD, FakeHash, FakeKernel
from tests.unit.make import TICK, Pieces, features, flow, key, pack_entry
from xtrace.errors import KernelError, VerifierError, XtraceError
from xtrace.kernel import bpf, constants
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.features import Features
from xtrace.kernel.syscall import ffi, lib
from xtrace.kernel.xdp_frame import FrameFlags
from xtrace.model.filters import Filters, parse_networks
from xtrace.model.flow import (
    COUNTERS,
    ENTRY,
    KEY,
    FlowRecord,
    FlowTable,
    InterfaceCounts,
    PacketCount,
    TickClock,
)
from xtrace.model.flow_owners import OWNER
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Direction
from xtrace.monitors import buffers
from xtrace.monitors.flows import plan as plan_module
from xtrace.monitors.flows import stores
from xtrace.monitors.flows import tables as tables_module
from xtrace.monitors.flows.plan import MEMORY_LIMIT, Plan
from xtrace.monitors.flows.start import OPEN_SLOTS
from xtrace.monitors.flows.tables import FlowTables, Place, load_object_spec

PLAN = Plan(max_flows=64, slots=1, cpus=2, recent_cpus=2)
FEATURES = features(cmpxchg=False)
"""The fake kernel has hash maps; what is in shared memory tests/kernel sees."""

COUNTER_WORDS = 2 * (3 + lib.TRAFFIC_TYPES)


@pytest.fixture(autouse=True)
def checked_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake kernel has no per-CPU values to count; tests/unit/kernel/test_bpf.py has the check."""
    monkeypatch.setattr(tables_module, "check_possible_cpus", lambda: None)
    monkeypatch.setattr(tables_module, "frame_flags", lambda: None)


@pytest.mark.parametrize("cpus", [1, 2, 16, 64, 128, 256, 512])
@pytest.mark.parametrize("slots", [1, OPEN_SLOTS])
def test_maps_fit_64_mb_by_default_on_any_number_of_cpus(
    cpus: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "possible_cpus", lambda: tuple(range(cpus)))
    plan = Plan.make(lib.DEFAULT_MAX_FLOWS, slots)
    assert plan.max_flows == lib.DEFAULT_MAX_FLOWS
    assert plan.recent_cpus == cpus
    assert plan.memory() <= MEMORY_LIMIT == 64 << 20
    assert plan.memory(mapped=False) <= MEMORY_LIMIT


def test_fewer_cpus_keep_recent_flows_where_there_is_no_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "possible_cpus", lambda: tuple(range(8192)))
    plan = Plan.make(lib.DEFAULT_MAX_FLOWS)
    assert plan.memory() <= MEMORY_LIMIT
    assert 1024 < plan.recent_cpus < 8192


def test_memory_is_what_the_kernel_will_charge() -> None:
    index = 2 * (131072 * 64 + 64)
    entries = 2 * 65536 * 96
    recent = 2 * 2 * lib.RECENT_FLOWS * 112
    assert (
        Plan(65536, slots=1, cpus=2, recent_cpus=2).memory() == index + entries + recent + 2 * 2 * 8 * COUNTER_WORDS * 2
    )


@pytest.mark.parametrize("flows, buckets", [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (65536, 65536), (65537, 131072)])
def test_hash_maps_have_a_power_of_two_of_buckets(flows: int, buckets: int) -> None:
    """struct bucket has 16 bytes, an element 48 before its key of 48 and counters of 40 bytes; there are two maps."""
    plan = Plan(flows, slots=1, cpus=1, recent_cpus=0)
    assert plan.memory(mapped=False) == 2 * (buckets * 16 + flows * (48 + 48 + 40) + 2 * 8 * COUNTER_WORDS)


def test_each_further_cpu_takes_its_recent_flows_and_counters() -> None:
    two, three = (Plan(65536, slots=5, cpus=cpus, recent_cpus=cpus).memory() for cpus in (2, 3))
    assert three - two == 2 * (lib.RECENT_FLOWS * 112 + 5 * 2 * 8 * COUNTER_WORDS)


def test_cpu_numbers_with_gaps_all_have_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "possible_cpus", lambda: (0, 1, 6))
    assert (Plan.make(100).cpus, Plan.make(100).recent_cpus) == (7, 7)


def test_tables_larger_than_the_default_leave_every_cpu_its_recent_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "possible_cpus", lambda: (0, 1))
    plan = Plan.make(1 << 22)
    assert (plan.max_flows, plan.recent_cpus) == (1 << 22, 2)


@pytest.mark.parametrize("flows", [1, 16, 127, 128, 129, 65536, 100_000, 1 << 22])
def test_both_buffers_begin_with_a_page_and_half_of_the_index_stays_free(flows: int) -> None:
    plan = Plan(flows, slots=1, cpus=1, recent_cpus=1)
    assert plan.table_entries >= flows
    assert plan.table_entries * 16 % mmap.PAGESIZE == plan.index_bytes % mmap.PAGESIZE == 0
    assert stores.WINDOW * ENTRY.size % mmap.PAGESIZE == stores.WINDOW * OWNER.size % mmap.PAGESIZE == 0
    assert plan.index_places >= 2 * flows
    assert plan.index_places.bit_count() == 1


@pytest.mark.parametrize(("flows", "mask"), [(1, 1), (3, 3), (4, 7), (65535, 0xFFFF), (65536, 0x1FFFF)])
def test_word_of_the_index_has_room_for_every_number_and_the_rest_tells_flows_apart(flows: int, mask: int) -> None:
    assert Plan(flows, slots=1, cpus=1, recent_cpus=1).number_mask == mask


def test_plan_sizes_the_maps_it_knows_and_leaves_the_others() -> None:
    plan = Plan(max_flows=128, slots=3, cpus=4, recent_cpus=4)
    sizes = {
        name: plan.resize(MapSpec(name, 1, 4, 4, max_entries=5)).max_entries
        for name in ("flows", "flow_index", "flows_a", "flows_b", "recent", "counters", "active")
    }
    tables = {"flows": 2 * plan.table_entries, "flow_index": 2 * plan.index_places, "flows_a": 128, "flows_b": 128}
    assert sizes == {**tables, "recent": 2 * 4 * lib.RECENT_FLOWS, "counters": 2 * 3 * 2, "active": 5}


class Maps:
    """What the maps of a FlowTables on hash maps hold: two tables, the counters, the word that says who is active."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.active = ffi.new("__u32 *", 0)
        self.recent = ffi.new("struct recent_flow[]", 2 * 2 * lib.RECENT_FLOWS)
        self.mapped = 0
        self.flows: dict[int, list[FlowRecord]] = {0: [], 1: []}
        self.counters = [[0] * COUNTER_WORDS * 2 for _ in range(4)]
        self.tables: FlowTables | None = None
        kernel.answer("xt_map_mmap", self._mmap)
        kernel.answer("xt_store_release", self._store)
        kernel.answer("xt_map_lookup_and_delete_batch", self._drain)
        kernel.answer("xt_map_lookup_batch", self._lookup_counters)
        kernel.answer("xt_map_update", self._update)

    def _mmap(self, fd: int, length: int, offset: int, address: Any) -> int:
        address[0] = self.active if length == 4 else self.recent
        self.mapped += 1
        return 0

    def _store(self, address: Any, value: int) -> int:
        address[0] = value
        return 0

    def _drain(self, fd: int, *arguments: Any) -> int:
        assert self.tables is not None
        buffer = 0 if fd == self.tables._maps["flows_a"].fileno() else 1
        waiting, self.flows[buffer] = self.flows[buffer], []
        packed = [(KEY.pack(*record.key), COUNTERS.pack(*spread(record)[1:])) for record in waiting]
        return FakeHash([packed]).drain(fd, *arguments)

    def _lookup_counters(
        self, fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any, flags: int
    ) -> int:
        packed = b"".join(struct.pack(f"={len(words)}Q", *words) for words in self.counters)
        ffi.memmove(values, packed, len(packed))
        return 0

    def _update(self, fd: int, where: bytes, value: bytes, flags: int) -> int:
        if self.tables is not None and fd == self.tables._maps["counters"].fileno():
            (index,) = struct.unpack("=I", where)
            assert len(value) == 8 * len(self.counters[index])
            self.counters[index] = list(struct.unpack(f"={len(value) // 8}Q", value))
        return 0

    def take_calls(self) -> list[str]:
        """The calls since the last time, with the map where there are several."""
        assert self.tables is not None
        names = {bpf_map.fileno(): name for name, bpf_map in self.tables._maps.items()}
        told = [
            f"{function} {names[given[0]]}" if isinstance(given[0], int) and given[0] in names else function
            for function, given in zip(self.kernel.calls, self.kernel.arguments, strict=True)
        ]
        self.kernel.calls.clear()
        self.kernel.arguments.clear()
        return told


def spread(record: FlowRecord) -> FlowRecord:
    """A record as a hash map has it: bit i of the TCP flags stands in byte i."""
    return record._replace(tcp_flags=sum(1 << 9 * bit for bit in range(8) if record.tcp_flags >> bit & 1))


@pytest.fixture
def maps(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Maps:
    monkeypatch.setattr(bpf, "possible_cpus", lambda: (0, 1))
    return Maps(kernel)


@pytest.fixture
def opened(maps: Maps) -> Iterator[Callable[..., FlowTables]]:
    """Opens FlowTables that are closed afterwards."""

    def make(has: Features = FEATURES, plan: Plan = PLAN, filters: Filters | None = None) -> FlowTables:
        maps.tables = FlowTables(plan, has, filters or Filters())
        maps.take_calls()
        return maps.tables

    yield make
    if maps.tables is not None:
        maps.tables.close()


def test_tick_flips_waits_and_only_then_drains(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened()
    tables.collect(tables.flip())
    assert maps.take_calls() == [
        "xt_store_release",
        "xt_map_update grace",
        "xt_map_lookup_and_delete_batch flows_a",
        "xt_map_lookup_batch counters",
    ]
    assert maps.active[0] == 1
    tables.collect(tables.flip())
    assert "xt_map_lookup_and_delete_batch flows_b" in maps.take_calls()
    assert maps.active[0] == 0


def test_last_tick_waits_and_drains_both_tables_without_a_flip(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened()
    tables.collect(tables.flip(last=True))
    assert maps.take_calls() == [
        "xt_map_update grace",
        "xt_map_lookup_and_delete_batch flows_a",
        "xt_map_lookup_and_delete_batch flows_b",
        "xt_map_lookup_batch counters",
    ]


def test_recent_flows_of_every_cpu_are_added_to_those_of_the_table(
    maps: Maps, opened: Callable[..., FlowTables]
) -> None:
    tables = opened()
    maps.flows = {0: [flow(packets=1, size=100, first_ns=5 * TICK, last_ns=6 * TICK, tcp_flags=0x02)], 1: []}
    for cpu in range(2):
        place = maps.recent[cpu * 2 * lib.RECENT_FLOWS + 3]
        ffi.memmove(ffi.addressof(place, "key"), KEY.pack(*key()), KEY.size)
        place.counters.packets, place.counters.bytes, place.counters.tcp_flags = 10, 1000, 1 << 36
        place.counters.first, place.counters.last, place.entry = 4 + cpu, 7 + cpu, 1
        place.counters.ecn_ce, place.counters.dscp = 3, 10
    (found,) = tables.collect(tables.flip()).flows
    assert found == flow(
        packets=21, size=2100, first_ns=4 * TICK, last_ns=8 * TICK, tcp_flags=0x12, dscp=10, dscp_changed=True, ecn_ce=6
    )
    assert not any(bytes(ffi.buffer(maps.recent)))
    assert list(tables.collect(tables.flip()).flows) == []


def test_each_tick_returns_the_flows_of_its_own_interval(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened()
    one, two = flow(key(ports=(1, 1))), flow(key(ports=(2, 2)))
    maps.flows = {0: [one], 1: [two]}
    assert list(tables.collect(tables.flip()).flows) == [one]
    assert list(tables.collect(tables.flip()).flows) == [two]
    assert list(tables.collect(tables.flip()).flows) == []


def test_flow_in_both_tables_is_one_flow_in_the_last_interval(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened()
    only_a, only_b = flow(key(ports=(1, 1))), flow(key(ports=(2, 2)))
    maps.flows = {
        0: [flow(packets=1, size=100, first_ns=5 * TICK, last_ns=6 * TICK, tcp_flags=0x02), only_a],
        1: [only_b, flow(packets=2, size=200, first_ns=7 * TICK, last_ns=9 * TICK, tcp_flags=0x11)],
    }
    found = list(tables.collect(tables.flip(last=True)).flows)
    both = flow(packets=3, size=300, first_ns=5 * TICK, last_ns=9 * TICK, tcp_flags=0x13)
    assert sorted(found) == sorted([only_a, only_b, both])


def test_counters_of_the_taken_buffer_are_summed_and_zeroed_and_the_others_stay(
    maps: Maps, opened: Callable[..., FlowTables]
) -> None:
    tables = opened()
    one_cpu = [10, 1000, 1, 60, *[0] * (COUNTER_WORDS - 4)]
    maps.counters[0] = one_cpu * 2  # ingress, buffer A
    maps.counters[1] = [5] * COUNTER_WORDS * 2  # buffer B, ingress
    drained = tables.collect(tables.flip())
    assert drained.counts == {(0, Direction.INGRESS): InterfaceCounts(PacketCount(20, 2000), PacketCount(2, 120))}
    assert not any(maps.counters[0])
    assert all(maps.counters[1])


def test_counters_of_both_buffers_are_added_at_the_end(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened()
    for index in range(4):
        maps.counters[index][0] = 10 + index
    drained = tables.collect(tables.flip(last=True))
    assert drained.counts[0, Direction.INGRESS].total.packets == 10 + 11
    assert drained.counts[0, Direction.EGRESS].total.packets == 12 + 13
    assert not any(map(any, maps.counters))


def test_counters_of_several_interfaces_are_distinguished(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened(plan=Plan(max_flows=64, slots=3, cpus=2, recent_cpus=2))
    maps.counters = [[100 + index, *[0] * (2 * COUNTER_WORDS - 1)] for index in range(2 * 3 * 2)]
    first = {where: counts.total.packets for where, counts in tables.collect(tables.flip()).counts.items()}
    came, left = Direction
    assert first == {(0, came): 100, (0, left): 102, (1, came): 104, (1, left): 106, (2, came): 108, (2, left): 110}
    second = {where: counts.total.packets for where, counts in tables.collect(tables.flip()).counts.items()}
    assert second == {where: packets + 1 for where, packets in first.items()}


def test_memory_is_that_of_all_shared_maps(
    maps: Maps, opened: Callable[..., FlowTables], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = opened()
    monkeypatch.setattr(bpf.Map, "memory", lambda self: self.spec.max_entries)
    # two tables, the recent flows, the counters, the active word, the grace map
    counting = 2 * 64 + 2 * 2 * lib.RECENT_FLOWS + 2 * 1 * 2 + 1 + 1
    # both tries, a bit per port, the room for one copied frame, ESP packets by SPI, whether there are any, a datagram
    filtering = 2 * lib.MAX_NETWORKS + 65536 // 64 + 1 + 1024 + 1 + 1
    # and a program for each place that is asked for owners
    assert tables.memory() == counting + filtering + 2 * 1


def test_grace_period_and_drain_are_measured(
    maps: Maps, opened: Callable[..., FlowTables], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = opened()
    readings = iter([1000, 2000, 11_000, 12_000, 19_000])
    for module in (buffers, tables_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic_ns=lambda: next(readings)))
    assert tables.collect(tables.flip()).end_monotonic_ns == 1000
    assert (tables.grace_ns, tables.drain_ns) == (9000, 7000)


def test_clock_sets_the_kernels_tick_against_the_monotonic_clock(
    maps: Maps, opened: Callable[..., FlowTables], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic_ns=lambda: 77, clock_getres=lambda which: {6: 0.004}[which])
    monkeypatch.setattr(tables_module, "time", clock)

    def sample(request: Any) -> int:
        ffi.memmove(request.data_out, struct.pack("=Q", 4_294_892_296 + 2**32), 8)
        return 0

    maps.kernel.answer("xt_prog_test_run", sample)
    assert opened().clock() == TickClock(4_294_892_296, 77, 4_000_000)


def constants_of(maps: Maps, tables: FlowTables, place: Place | None = None) -> dict[str, int]:
    """The constants that a load of the packet program is given."""
    contents: list[bytes] = []

    def update(fd: int, where: bytes, value: bytes, flags: int) -> int:
        contents.append(value)
        return 0

    maps.kernel.answer("xt_map_update", update)
    tables.load("xdp_ingress", place or Place()).close()
    variables = load_object_spec().maps["rodata"].variables
    return {name: int.from_bytes(contents[0][at : at + size], "little") for name, (at, size) in variables.items()}


@pytest.mark.parametrize(
    "function, succeeds",
    [
        ("xt_map_create", 0),
        ("xt_map_create", 3),
        ("xt_map_create", 7),
        ("xt_map_update", 0),
        ("xt_map_freeze", 0),
        ("xt_map_mmap", 0),
        ("xt_prog_load", 0),
    ],
)
def test_whatever_fails_while_opening_nothing_stays_open(
    function: str, succeeds: int, maps: Maps, kernel: FakeKernel
) -> None:
    kernel.answer(function, *[0] * succeeds, -errno.EINVAL)
    with pytest.raises(XtraceError, match=r"EINVAL \(Invalid argument\)"):
        FlowTables(PLAN, FEATURES)
    assert kernel.open == set()
    assert kernel.calls.count("xt_munmap") == maps.mapped


def test_kernel_that_refuses_our_types_gets_maps_and_programs_without(maps: Maps, kernel: FakeKernel) -> None:
    kernel.answer("xt_btf_load", -errno.EINVAL)
    requests: list[tuple[int, int]] = []

    def load(request: Any) -> int:
        requests.append((request.prog_btf_fd, request.func_info_cnt))
        return 0

    kernel.answer("xt_prog_load", load)
    with closing(FlowTables(PLAN, features(btf=True))):
        assert set(requests) == {(0, 0)}


def test_kernel_that_takes_our_types_gets_them_with_every_program(maps: Maps, kernel: FakeKernel) -> None:
    requests: list[tuple[int, bool]] = []

    def load(request: Any) -> int:
        requests.append((request.prog_btf_fd, request.func_info_cnt > 0))
        return 0

    kernel.answer("xt_prog_load", load)
    with closing(FlowTables(PLAN, features(btf=True))):
        assert set(requests) == {(FIRST_FD + 1, True)}  # types are loaded first


def test_program_is_loaded_with_the_constants_of_its_place(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened(plan=PLAN._replace(slots=8))
    wanted = {"interface_slot": 7, "is_egress": 1, "link_layer": lib.LINK_LAYER_NONE, "has_frags": 1}
    wanted |= {"is_realtime": 0, "own_counters": (7 * 2 + 1) * 2, "recent_mask": lib.RECENT_FLOWS - 1, "max_flows": 64}
    wanted |= {
        "table_entries": PLAN.table_entries,
        "index_places": PLAN.index_places,
        "index_mask": PLAN.index_places - 1,
    }
    wanted |= {"number_mask": PLAN.number_mask, "frame_flags": 0, "frags_flag": 0, "reads_plain": 0}
    told = constants_of(maps, tables, Place(7, Direction.EGRESS, lib.LINK_LAYER_NONE, frags=True))
    assert {name: told[name] for name in wanted} == wanted
    assert len({told[f"hash_{number}"] for number in range(12)}) == 12
    told = constants_of(maps, tables)
    assert told["reads_plain"] == 1
    assert [told[name] for name in ("interface_slot", "is_egress", "link_layer", "has_frags")] == [0, 0, 0, 0]


def test_program_for_fragments_is_told_where_the_kernel_says_that_there_are_any(
    maps: Maps, opened: Callable[..., FlowTables], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "frame_flags", lambda: FrameFlags(52, 1, {"bpf_cast_to_kern_ctx": 63548}))
    tables = opened()
    told = constants_of(maps, tables, Place(frags=True))
    assert (told["frame_flags"], told["frags_flag"]) == (52, 1)
    told = constants_of(maps, tables)
    assert (told["frame_flags"], told["frags_flag"]) == (0, 0)


def test_slot_that_the_counters_have_no_room_for_is_refused(maps: Maps, opened: Callable[..., FlowTables]) -> None:
    tables = opened()
    with pytest.raises(ValueError, match="slot 1: the counters have room for 1"):
        tables.load("xdp_ingress", Place(slot=1))


@pytest.mark.parametrize(
    "program, place, expected",
    [
        ("xdp_ingress", Place(), (6, 37, 0)),
        ("xdp_ingress", Place(frags=True), (6, 37, constants.PROG_HAS_FRAGS)),
        ("tc_packet", Place(), (3, 0, 0)),
        ("tc_packet", Place(direction=Direction.EGRESS), (3, 0, 0)),
        ("sample_clock", Place(), (3, 0, 0)),
    ],
)
def test_program_is_loaded_for_its_hook(
    program: str, place: Place, expected: tuple[int, int, int], maps: Maps, opened: Callable[..., FlowTables]
) -> None:
    requests: list[tuple[int, int, int]] = []

    def load(request: Any) -> int:
        requests.append((request.prog_type, request.expected_attach_type, request.prog_flags))
        return 0

    tables = opened()
    maps.kernel.answer("xt_prog_load", load)
    tables.load(program, place).close()
    assert requests == [expected]


FILTERS = Filters(
    types=frozenset({"TCP", "RoCE_v2"}),
    networks=parse_networks("10.0.0.0/8,fd00::/8", "--net"),
    excluded_networks=parse_networks("10.9.0.0/16", "--exclude-net"),
    ports=frozenset({0, 63, 64, 65535}),
    exclude_dns=True,
)


def test_without_filters_every_switch_is_off_and_no_map_is_filled(maps: Maps, kernel: FakeKernel) -> None:
    with closing(FlowTables(PLAN, FEATURES)) as tables:
        filled = {given[0] for given in kernel.arguments_of("xt_map_update")}
        assert not filled & {tables._maps[name].fileno() for name in ("networks", "excluded_networks", "ports")}
        told = constants_of(maps, tables)
    switches = ("wanted_types", "has_networks", "has_excluded_networks", "has_ports", "excludes_dns")
    assert [told[name] for name in switches] == [0] * 5


def test_every_load_of_the_packet_program_has_the_filters_switches(
    maps: Maps, opened: Callable[..., FlowTables]
) -> None:
    tables = opened(filters=FILTERS, plan=PLAN._replace(slots=4))
    for place in (Place(), Place(slot=3, direction=Direction.EGRESS)):
        told = constants_of(maps, tables, place)
        wanted = 1 << TRAFFIC_TYPES.index("TCP") | 1 << TRAFFIC_TYPES.index("RoCE_v2")
        assert told["wanted_types"] == wanted
        assert told["has_networks"] == told["has_excluded_networks"] == told["has_ports"] == told["excludes_dns"] == 1


def test_filters_stand_in_their_maps_before_any_program_is_loaded(maps: Maps, kernel: FakeKernel) -> None:
    with closing(FlowTables(PLAN, FEATURES, FILTERS)) as tables:
        first_load = kernel.calls.index("xt_prog_load")
        given = [a for f, a in zip(kernel.calls[:first_load], kernel.arguments, strict=False) if f == "xt_map_update"]
        entries = {
            name: {where: value for fd, where, value, _ in given if fd == tables._maps[name].fileno()}
            for name in ("networks", "excluded_networks", "ports")
        }
    mapped = bytes(10) + b"\xff\xff"
    assert entries["networks"] == {
        struct.pack("=II", 32 + 96 + 8, 4) + mapped + bytes([10, 0, 0, 0]): b"\1",
        struct.pack("=II", 32 + 8, 6) + b"\xfd" + bytes(15): b"\1",
    }
    assert entries["excluded_networks"] == {struct.pack("=II", 32 + 96 + 16, 4) + mapped + bytes([10, 9, 0, 0]): b"\1"}
    assert entries["ports"] == {
        struct.pack("=I", 0): struct.pack("=Q", 1 << 63 | 1),
        struct.pack("=I", 1): struct.pack("=Q", 1),
        struct.pack("=I", 1023): struct.pack("=Q", 1 << 63),
    }


def merged(flows: list[FlowRecord]) -> list[FlowRecord]:
    entries = ffi.new("struct flow_entry[]", len(flows) + 1)
    ffi.memmove(entries, b"".join(map(pack_entry, flows)), len(flows) * ENTRY.size)
    return list(stores.merged(entries, len(flows), ffi.NULL))


def test_flows_that_are_there_once_stay_as_they_are() -> None:
    flows = [flow(key(ports=(n, 443)), packets=n) for n in range(10)]
    assert merged(flows) == flows
    assert merged([]) == []


def test_duplicates_are_added_up_wherever_they_stand() -> None:
    a, b = key(ports=(1, 1)), key(ports=(2, 2))
    found = merged([flow(a, 1, 10), flow(b, 2, 20), flow(a, 4, 40), flow(a, 8, 80), flow(b, 16, 160)])
    assert [(record.key, record.packets, record.bytes) for record in found] == [(a, 13, 130), (b, 18, 180)]


def test_entries_that_were_taken_for_nothing_are_dropped() -> None:
    used, unused = [flow(key(ports=(n, 443)), packets=n) for n in (1, 2, 3)], flow(packets=0)
    flows = [unused, used[0], unused, used[1], used[2], unused]
    entries = memoryview(bytearray(b"".join(map(pack_entry, flows))))
    owners = memoryview(bytearray(b"".join(OWNER.pack(0, pid, 0, b"", 0, 0) for pid in range(6))))
    lying = Pieces(entries, owners, 2)
    found = [*chain.from_iterable(map(stores.find_unused, FlowTable.where(lying, 6).windows()))]
    assert found == [0, 2, 5]
    stores.close_gaps(lying, found, 6)
    table = FlowTable(entries, 3, owners)
    assert [*table] == [used[1], used[0], used[2]]
    assert [OWNER.unpack(table.owner(index))[1] for index in range(3)] == [3, 1, 4]
    assert [record.packets for record in FlowTable.where(lying, 6)] == [2, 1, 3, 0, 0, 0]
    assert not lying.open


def test_of_duplicates_owners_the_one_that_is_known_better_stays() -> None:
    flows = [flow(key(ports=(1, 1))), flow(key(ports=(2, 2))), flow(key(ports=(1, 1))), flow(key(ports=(2, 2)))]
    entries = ffi.new("struct flow_entry[]", 4)
    ffi.memmove(entries, b"".join(map(pack_entry, flows)), 4 * ENTRY.size)
    kinds = (lib.OWNER_UNKNOWN, lib.OWNER_SOCKET, lib.OWNER_SOCKET, lib.OWNER_CGROUP)
    owners = ffi.new("struct flow_owner[]", [{"pid": number, "kind": kind} for number, kind in enumerate(kinds)])
    table = stores.merged(entries, 4, owners)
    assert [OWNER.unpack(table.owner(index))[1] for index in range(len(table))] == [2, 1]


def test_dscp_of_merged_flows_is_the_later_ones_and_marked_where_they_differ() -> None:
    early, late = flow(last_ns=5 * TICK, dscp=8), flow(last_ns=6 * TICK, dscp=46)
    for order in ([early, late], [late, early]):
        (found,) = merged(order)
        assert (found.dscp, found.dscp_changed) == (46, True)
    (found,) = merged([late, late])
    assert (found.dscp, found.dscp_changed) == (46, False)
    (found,) = merged([late, flow(last_ns=1 * TICK, dscp=46, dscp_changed=True)])
    assert (found.dscp, found.dscp_changed) == (46, True)


def test_times_of_merged_flows_are_the_earliest_and_latest_also_where_ticks_wrap() -> None:
    one, other = flow()._replace(first=2**32 - 2, last=3), flow()._replace(first=1, last=2**32 - 1)
    for order in ([one, other], [other, one]):
        (found,) = merged(order)
        assert (found.first, found.last) == (2**32 - 2, 3)


def test_errors_of_opening_keep_their_kind(maps: Maps, kernel: FakeKernel) -> None:
    kernel.answer("xt_map_create", -errno.ENOMEM)
    with pytest.raises(KernelError, match=r"^BPF_MAP_CREATE\(.+\): ENOMEM"):
        FlowTables(PLAN, FEATURES)
    kernel.answer("xt_map_create", 0)
    kernel.answer("xt_prog_load", -errno.EACCES)
    with pytest.raises(VerifierError, match=r"^BPF_PROG_LOAD\(sample_clock\): EACCES"):
        FlowTables(PLAN, FEATURES)


def test_owners_are_found_where_flows_are_in_shared_memory_and_by_as_many_entries(
    maps: Maps, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, ...]] = []

    class Probe:
        owners = "map of owners"

        def __init__(self, *given: Any) -> None:
            made.append(given)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            made.append(("closed",))

        def memory(self) -> int:
            return 1000

    monkeypatch.setattr("xtrace.monitors.owners.probe.OwnerProbe", Probe)
    with closing(FlowTables(PLAN, FEATURES)) as tables, pytest.raises(XtraceError, match="compare-and-swap"):
        tables.find_owners("groups")  # type: ignore[arg-type]
    with closing(FlowTables(PLAN, FEATURES)) as tables:
        tables.features = features(cmpxchg=True)
        monkeypatch.setattr(tables._collection, "memory", lambda: 7)
        probe = tables.find_owners("groups")  # type: ignore[arg-type]
        assert tables.owner_probe is probe
        assert made == [(tables._maps, 2 * PLAN.table_entries, "groups")]
        assert str(tables._store.owners) == "map of owners"
        assert tables.memory() == 1007
    assert made[-1] == ("closed",)
