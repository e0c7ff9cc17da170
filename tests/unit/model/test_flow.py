"""Keys, counters and tables from the kernel's bytes, and what a snapshot shows of them."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest

from tests.unit.make import (
    ARP,
    ETH0,
    GRE,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    LLDP,
    RDMA_OVER_ETHERNET,
    SCTP,
    TCP,
    UDP,
    flow,
    key,
    packed,
    roce,
    snapshot,
    table,
)
from xtrace.kernel.syscall import ffi, lib
from xtrace.model import flow as flow_module
from xtrace.model.flow import (
    COUNTERS,
    EGRESS,
    ENTRY,
    FRAGMENT,
    HAS_SRC_QPN,
    KEY,
    LATER_FRAGMENT,
    ROCE_V1,
    ROCE_V2,
    FlowKey,
    FlowRecord,
    FlowTable,
    Interface,
    InterfaceCounts,
    PacketCount,
    Selection,
    TickClock,
    select,
)
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Direction, Hook, XdpMode


def c_key(**fields: Any) -> Any:
    """struct flow_key as the packet program fills it."""
    made = ffi.new("struct flow_key *")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def table_from(where: Any, counters: Any) -> FlowTable:
    """The table that one C key and its counters are."""
    entry = ffi.new("struct flow_entry *", {"key": where[0], "counters": counters[0]})
    return FlowTable(memoryview(ffi.buffer(entry)), 1)


def test_every_field_of_the_c_key_is_decoded_under_its_own_name() -> None:
    made = c_key(
        src=packed("192.168.1.100"),
        dst=packed("fd00::2"),
        src_port=80,
        dst_port=12345,
        src_qpn=0xABCDEF,
        vlan_id=4094,
        ethertype=IPV6,
        slot=7,
        protocol=TCP,
        opcode=8,
        flags=EGRESS | HAS_SRC_QPN,
    )
    (record,) = table_from(made, ffi.new("struct flow_counters *"))
    assert record.key == FlowKey(
        packed("192.168.1.100"), packed("fd00::2"), 80, 12345, 0xABCDEF, 4094, IPV6, 7, TCP, 8, EGRESS | HAS_SRC_QPN
    )


def test_every_field_of_the_c_counters_is_decoded_under_its_own_name() -> None:
    counters = ffi.new("struct flow_counters *", {"packets": 1, "bytes": 2, "first": 3, "last": 4, "tcp_flags": 5})
    counters.ecn_ce = 2**48 - 6
    counters.dscp, counters.dscp_changed = 46, 1
    (record,) = table_from(c_key(), counters)
    assert (record.packets, record.bytes, record.first, record.last, record.tcp_flags) == (1, 2, 3, 4, 5)
    assert (record.ecn_ce_packets, record.dscp, record.dscp_changed) == (2**48 - 6, 46, True)
    assert not flow(dscp=63, ecn_ce=7).dscp_changed


@pytest.mark.parametrize("tick", [0, 1, 5000, 2**31, 2**32 - 1])
@pytest.mark.parametrize("distance", [0, 1, -1, 90_000, -90_000, 2**31 - 1, -(2**31)])
def test_ticks_are_times_also_where_their_32_bits_wrap(tick: int, distance: int) -> None:
    clock = TickClock(tick, 10**18, 4_000_000)
    assert clock.monotonic((tick + distance) % 2**32) == 10**18 + distance * 4_000_000


def test_table_that_is_released_is_empty() -> None:
    released = table([flow(), flow(key(slot=1))])
    assert len(released.indexes(0, Direction.INGRESS)) == 1
    released.release()
    assert (list(released), len(released), list(released.byte_counts)) == ([], 0, [])
    assert not released.indexes(0, Direction.INGRESS)


def test_key_is_decoded_from_the_documented_bytes() -> None:
    raw = (
        bytes.fromhex("00000000000000000000ffffc0a80164 00000000000000000000ffffc0a80101")
        + (80).to_bytes(2, "little")
        + (12345).to_bytes(2, "little")
        + bytes(4)
        + (0).to_bytes(2, "little")
        + (0x0800).to_bytes(2, "little")
        + bytes([0, 6, 0, 0])
    )
    found = FlowTable(memoryview(raw + bytes(48)), 1)[0]
    assert found.key == key("192.168.1.100", "192.168.1.1", (80, 12345), TCP)


def test_counters_up_to_64_bits_are_not_cut() -> None:
    largest = 2**64 - 1
    (record,) = table([FlowRecord(key(), largest, largest, largest, largest, 2**32 - 1, 2**32 - 1)])
    assert record[1:] == (*[largest] * 4, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize(
    "struct, python", [("flow_key", KEY.size), ("flow_counters", COUNTERS.size), ("flow_entry", ENTRY.size)]
)
def test_python_and_c_agree_on_struct_sizes(struct: str, python: int) -> None:
    assert ffi.sizeof(f"struct {struct}") == python


@pytest.mark.parametrize("struct", ["flow_key", "flow_counters", "packet_count", "interface_counters"])
def test_c_structs_have_no_padding_that_would_be_hashed_or_summed(struct: str) -> None:
    def covered(kind: Any, at: int) -> set[int]:
        if kind.kind == "array":
            return set().union(*(covered(kind.item, at + n * ffi.sizeof(kind.item)) for n in range(kind.length)))
        if kind.kind in ("struct", "union"):
            return set().union(*(covered(member.type, at + member.offset) for _, member in kind.fields))
        return set(range(at, at + ffi.sizeof(kind)))

    kind = ffi.typeof(f"struct {struct}")
    assert covered(kind, 0) == set(range(ffi.sizeof(kind)))


@pytest.mark.parametrize("name", ["EGRESS", "FRAGMENT", "ROCE_V1", "ROCE_V2", "HAS_SRC_QPN", "LATER_FRAGMENT"])
def test_flags_are_those_of_the_c_header(name: str) -> None:
    assert getattr(flow_module, name) == getattr(lib, f"FLOW_{name}")


def test_traffic_type_names_stand_in_the_order_of_the_c_enum() -> None:
    values = {name: getattr(lib, f"TRAFFIC_{name.upper()}") for name in TRAFFIC_TYPES}
    assert values == {name: number for number, name in enumerate(TRAFFIC_TYPES)}
    assert len(TRAFFIC_TYPES) == lib.TRAFFIC_TYPES


@pytest.mark.parametrize(
    "flags, ethertype, protocol, expected",
    [
        (0, IPV4, TCP, "TCP"),
        (0, IPV6, TCP, "TCP"),
        (0, IPV4, UDP, "UDP"),
        (0, IPV6, UDP, "UDP"),
        (0, IPV4, SCTP, "SCTP"),
        (0, IPV4, ICMP, "ICMP"),
        (0, IPV6, ICMPV6, "ICMP"),
        (0, IPV4, GRE, "Other"),
        (0, IPV4, 0, "Other"),
        (0, ARP, 0, "ARP"),
        (0, LLDP, 0, "Other"),
        (0, 0, 0, "Other"),
        (FRAGMENT, IPV4, UDP, "UDP"),
        (EGRESS, IPV4, TCP, "TCP"),
        (ROCE_V2, IPV4, UDP, "RoCE_v2"),
        (ROCE_V2 | EGRESS | HAS_SRC_QPN, IPV6, UDP, "RoCE_v2"),
        (FRAGMENT | LATER_FRAGMENT, IPV4, UDP, "UDP"),
        (ROCE_V1, RDMA_OVER_ETHERNET, 0, "RoCE_v1_IBoE"),
        (0, RDMA_OVER_ETHERNET, 0, "RoCE_v1_IBoE"),
    ],
)
def test_traffic_type(flags: int, ethertype: int, protocol: int, expected: str) -> None:
    assert key(protocol=protocol, ethertype=ethertype, flags=flags).traffic_type == expected


@pytest.mark.parametrize(
    "where, has_addresses, is_ip",
    [
        (key("0.0.0.0", "255.255.255.255"), True, True),
        (key("::", "ff02::1"), True, True),
        (key("::", "::", (1, 2), TCP), True, True),
        (key("fe80::1", "fe80::2"), True, True),
        (key("", "", (0, 0), 0, ethertype=IPV4), False, False),
        (key("", "", (0, 0), 0, ethertype=IPV6), False, False),
        (key("", "", (0, 0), 0, ethertype=ARP), False, False),
        (key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP), True, False),
        (key("0.0.0.0", "10.0.0.2", (0, 0), 0, ethertype=ARP), True, False),
        (key("", "", (0, 0), 0, ethertype=LLDP), False, False),
        (roce(), True, True),
        (roce(src="fe80::1", dst="fe80::2", version=1), True, False),
    ],
)
def test_only_ip_has_a_protocol_while_others_have_addresses_too(
    where: FlowKey, has_addresses: bool, is_ip: bool
) -> None:
    assert (where.has_addresses, where.is_ip) == (has_addresses, is_ip)


@pytest.mark.parametrize("number", [0, 1, 193, 0xFFFF, 0x10000, 0xABCDEF, 0xFFFFFF])
def test_destination_queue_pair_is_the_whole_word_that_is_the_ports_of_others(number: int) -> None:
    made = c_key(dst_qpn=number, flags=ROCE_V2)
    (record,) = table_from(made, ffi.new("struct flow_counters *"))
    assert record.key.dst_qpn == number
    assert roce(dst_qpn=number).dst_qpn == number


@pytest.mark.parametrize(
    "where, expected",
    [
        (roce(), True),
        (roce(version=1), True),
        (key(protocol=UDP, ports=(4791, 4791)), False),
        (key("fe80::1", "fe80::2", (0, 0), 0, ethertype=RDMA_OVER_ETHERNET), False),
    ],
)
def test_queue_pair_and_opcode_are_told_only_where_a_transport_header_was_read(where: FlowKey, expected: bool) -> None:
    assert where.is_roce is expected


def test_table_gives_the_same_flows_one_by_one_and_by_index() -> None:
    flows = [flow(key(ports=(number, 443)), packets=number + 1, size=100 * number) for number in range(5)]
    made = table(flows)
    assert len(made) == 5
    assert list(made) == flows
    assert [made[index] for index in range(5)] == flows


def test_table_shows_nothing_behind_its_last_flow() -> None:
    made = table([flow()], room=10)
    assert len(list(made)) == len(made.byte_counts) == len(made.packet_counts) == 1
    assert list(made.indexes(0xAA, Direction.INGRESS)) == []


def test_counts_by_index_are_those_of_the_flows() -> None:
    made = table([flow(packets=1, size=64), flow(packets=2, size=3000), flow(packets=3, size=2**40)])
    assert list(made.packet_counts) == [1, 2, 3]
    assert list(made.byte_counts) == [64, 3000, 2**40]


def test_empty_table_has_no_flows() -> None:
    made = table([], room=0)
    assert (len(made), list(made), list(made.byte_counts), list(made.indexes(0, Direction.INGRESS))) == (0, [], [], [])


def test_flows_are_told_apart_by_interface_slot_and_direction() -> None:
    places = [(0, 0), (1, 0), (0, EGRESS), (255, EGRESS | FRAGMENT), (0, FRAGMENT), (1, EGRESS)]
    made = table([flow(key(slot=slot, flags=flags)) for slot, flags in places])
    assert list(made.indexes(0, Direction.INGRESS)) == [0, 4]
    assert list(made.indexes(0, Direction.EGRESS)) == [2]
    assert list(made.indexes(1, Direction.INGRESS)) == [1]
    assert list(made.indexes(1, Direction.EGRESS)) == [5]
    assert list(made.indexes(255, Direction.EGRESS)) == [3]
    assert list(made.indexes(2, Direction.INGRESS)) == []


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("slot", [0, 3])
def test_flows_all_of_one_interface_are_all_found_there_and_nowhere_else(slot: int, direction: Direction) -> None:
    made = table([flow(key(slot=slot, flags=direction.bit)) for _ in range(4)])
    (other,) = set(Direction) - {direction}
    assert list(made.indexes(slot, direction)) == [0, 1, 2, 3]
    assert list(made.indexes(slot, other)) == []
    assert list(made.indexes(slot + 1, direction)) == []


def sized(*sizes: int, slot: int = 0) -> list[FlowRecord]:
    return [flow(key(ports=(n, 443), slot=slot), packets=n + 1, size=size) for n, size in enumerate(sizes)]


def choose(
    flows: list[FlowRecord], top: int, ordered: bool = False, interface: Interface = ETH0
) -> tuple[Selection, list[FlowRecord]]:
    """What is selected of an interval with these flows, and the flows that are meant."""
    interval = snapshot(flows)
    selection = select(interval, interface, top, ordered)
    return selection, [interval.flows[index] for index in selection.chosen]


def test_without_a_limit_every_flow_is_shown() -> None:
    flows = sized(10, 30, 20)
    selection, shown = choose(flows, top=0)
    assert sorted(shown) == sorted(flows)
    assert (selection.flows, selection.other_flows, selection.other) == (3, 0, PacketCount(0, 0))


def test_ordered_flows_come_largest_first() -> None:
    _, shown = choose(sized(10, 30, 20), top=0, ordered=True)
    assert [found.bytes for found in shown] == [30, 20, 10]


def test_top_shows_the_largest_and_adds_up_the_rest() -> None:
    selection, shown = choose(sized(10, 50, 30, 40, 20), top=2)
    assert [found.bytes for found in shown] == [50, 40]
    assert (selection.flows, selection.other_flows) == (5, 3)
    assert selection.other == PacketCount(packets=1 + 3 + 5, bytes=10 + 30 + 20)


@pytest.mark.parametrize("top", [3, 4, 1000])
def test_top_that_covers_every_flow_leaves_no_rest(top: int) -> None:
    selection, shown = choose(sized(1, 2, 3), top=top, ordered=True)
    assert [found.bytes for found in shown] == [3, 2, 1]
    assert (selection.other_flows, selection.other) == (0, PacketCount(0, 0))


def test_flows_of_equal_size_keep_their_order_and_are_counted_once() -> None:
    flows = sized(7, 7, 7, 7)
    selection, shown = choose(flows, top=2)
    assert shown == flows[:2]
    assert selection.other == PacketCount(3 + 4, 14)


@pytest.mark.parametrize("seed", range(20))
def test_largest_flows_are_those_of_a_stable_sort(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice((60, 61, chance.randrange(1000), 2**64 - 1)) for _ in range(chance.randrange(1, 300))]
    found = table([flow(size=size) for size in sizes])
    some = sorted(chance.sample(range(len(sizes)), chance.randrange(len(sizes)) + 1))
    for indexes in (range(len(sizes)), array("I", some), ()):
        in_order = sorted(indexes, key=sizes.__getitem__, reverse=True)
        for most in (0, 1, 2, 3, 50, len(in_order), len(in_order) + 1):
            assert [*found.largest(indexes, most)] == in_order[:most]


@pytest.mark.parametrize(
    "indexes, ascends", [([0, 1, 2], True), ([1, 0, 2], False), ([0, 2, 1], False), ([1, 2], True)]
)
def test_flows_that_do_not_ascend_are_read_from_a_table_in_memory(indexes: list[int], ascends: bool) -> None:
    """A table may be larger than what is in memory of it, and is then read from its begin to its end."""
    found = table(sized(10, 20, 30))
    made, places = found.in_order(indexes)
    assert (made is found) == ascends
    assert [made[place].bytes for place in places] == [10 * (index + 1) for index in indexes]


def test_selection_looks_at_one_interface_only() -> None:
    flows = sized(1, 2) + sized(100, 200, 300, slot=1)
    selection, shown = choose(flows, top=1)
    assert [found.bytes for found in shown] == [2]
    assert (selection.flows, selection.other) == (2, PacketCount(1, 1))


def test_selection_of_a_silent_interface_is_empty() -> None:
    selection, shown = choose(sized(1, 2), top=1, interface=Interface("eth1", slot=1))
    assert (shown, selection.flows, selection.other_flows) == ([], 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_shown_and_other_always_add_up_to_all(seed: int) -> None:
    chance = random.Random(seed)
    flows = [
        flow(key(slot=chance.randrange(2)), packets=chance.randrange(1, 50), size=chance.choice([60, 60, 1500, 9000]))
        for _ in range(chance.randrange(60))
    ]
    for top in (0, 1, 5, 30, 100):
        selection, shown = choose(flows, top=top)
        mine = [f for f in flows if f.key.slot == 0]
        assert len(shown) + selection.other_flows == selection.flows == len(mine)
        assert sum(f.bytes for f in shown) + selection.other.bytes == sum(f.bytes for f in mine)
        assert sum(f.packets for f in shown) + selection.other.packets == sum(f.packets for f in mine)


def test_interface_counts_of_all_cpus_are_summed() -> None:
    per_cpu = ffi.new("struct interface_counters[3]")
    for cpu in range(3):
        per_cpu[cpu].total.packets, per_cpu[cpu].total.bytes = 100 + cpu, 1000 + cpu
        per_cpu[cpu].filtered.packets, per_cpu[cpu].filtered.bytes = 10, 20
        per_cpu[cpu].unattributed[lib.TRAFFIC_UDP].packets = cpu
        per_cpu[cpu].unattributed[lib.TRAFFIC_OTHER].bytes = 7
    counts = InterfaceCounts.from_per_cpu(bytes(ffi.buffer(per_cpu)))
    assert counts.total == PacketCount(303, 3003)
    assert counts.filtered == PacketCount(30, 60)
    by_type = dict(zip(TRAFFIC_TYPES, counts.unattributed, strict=True))
    assert by_type.pop("UDP") == PacketCount(3, 0)
    assert by_type.pop("Other") == PacketCount(0, 21)
    assert set(by_type.values()) == {PacketCount(0, 0)}
    assert counts.unattributed_total == PacketCount(3, 21)


def test_interface_counts_of_both_buffers_are_added() -> None:
    types = range(len(TRAFFIC_TYPES))
    one = InterfaceCounts(PacketCount(1, 2), PacketCount(3, 4), tuple(PacketCount(n, n) for n in types))
    both = one + one
    assert (both.total, both.filtered) == (PacketCount(2, 4), PacketCount(6, 8))
    assert both.unattributed == tuple(PacketCount(2 * n, 2 * n) for n in types)


def test_packet_counts_add_and_subtract_by_member_not_as_tuples() -> None:
    assert PacketCount(1, 2) + PacketCount(3, 4) == PacketCount(4, 6)
    assert PacketCount(4, 6) - PacketCount(1, 2) == PacketCount(3, 4)
    pair = (3, 4)
    with pytest.raises(TypeError):
        PacketCount(1, 2) + pair


@pytest.mark.parametrize(
    "hook, mode, units",
    [(Hook.XDP, XdpMode.NATIVE, "wire"), (Hook.XDP, XdpMode.GENERIC, "frame"), (Hook.TC, None, "wire")],
)
def test_only_generic_xdp_counts_merged_frames(hook: Hook, mode: XdpMode | None, units: str) -> None:
    assert Interface("eth0", 0, hook, mode).units == units


def test_driver_that_hands_merged_packets_to_xdp_counts_frames() -> None:
    assert Interface("tun0", 0, Hook.XDP, XdpMode.NATIVE, merges=True).units == "frame"


@pytest.mark.parametrize("indexes", [[], [1], [0, 2], [0, 1, 2]])
def test_some_flows_of_a_table_are_added_up_by_index(indexes: list[int]) -> None:
    flows = [flow(packets=1, size=64), flow(packets=2, size=3000), flow(packets=4, size=2**40)]
    expected = PacketCount(sum(flows[i].packets for i in indexes), sum(flows[i].bytes for i in indexes))
    assert table(flows).sum(indexes) == expected
