"""Flow and options records, decoded independently."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from tests.support.ipfix import Values, decoded, number
from tests.unit.make import ARP, BOOT, ETH0, ICMP, ICMPV6, NS, TICK, UDP, counts_of, flow, key, roce, snapshot
from xtrace.model.flow import (
    EGRESS,
    FRAGMENT,
    INNER,
    LATER_FRAGMENT,
    FlowRecord,
    FlowSnapshot,
    InterfaceCounts,
    PacketCount,
)
from xtrace.sinks.ipfix.message import Record, messages, templates
from xtrace.sinks.ipfix.records import Unsent, flow_records, interface_records, reliability_records, sums

REVERSE = 29305
IPV6_TYPE = 0x86DD
INDEX = {0: 7}


def sent(records: Sequence[Record], most: int = 1400) -> list[tuple[int, Values]]:
    """Return records as a collector decodes them."""
    packed, sequence = [], 0
    for message in (templates(), *messages(records, most)):
        packed.append(message.whole(1, sequence))
        assert len(packed[-1]) == message.size
        sequence += message.records
    return decoded(packed)


def exported(taken: FlowSnapshot, biflow: bool = False) -> list[Values]:
    return [values for _, values in sent(list(flow_records(taken, INDEX, biflow)))]


def address(values: Values, element: int) -> str:
    return str(ip_address(values[element]))


def test_tcp_flow_has_ends_counts_times_and_interface() -> None:
    seen = flow(key(vlan_id=12), 10, 1500, first_ns=1 * NS, last_ns=2 * NS, tcp_flags=0x12, dscp=46)
    (values,) = exported(snapshot([seen]))
    assert (address(values, 8), address(values, 12)) == ("192.168.1.100", "192.168.1.1")
    expected = {7: 80, 11: 12345, 4: 6, 6: 0x12, 2: 10, 1: 1500, 352: 1500, 10: 7, 14: 0, 61: 0, 58: 12}
    expected |= {256: 0x0800, 195: 46, 152: (BOOT + NS) // TICK, 153: (BOOT + 2 * NS) // TICK}
    assert {element: number(values, element) for element in expected} == expected


def test_outgoing_flow_has_an_egress_interface() -> None:
    (values,) = exported(snapshot([flow(key(flags=EGRESS))]))
    assert (number(values, 10), number(values, 14), number(values, 61)) == (0, 7, 1)


def test_flow_names_the_interface_of_its_slot() -> None:
    taken = snapshot([flow(key(slot=slot), packets=slot) for slot in (1, 2, 3)])
    made = [values for _, values in sent(list(flow_records(taken, {1: 9, 2: 8})))]
    assert {number(values, 2): number(values, 10) for values in made} == {1: 9, 2: 8, 3: 0}


def test_times_stay_within_the_interval() -> None:
    (values,) = exported(snapshot([flow(first_ns=NS - TICK, last_ns=3 * NS)], start_ns=NS, end_ns=2 * NS))
    assert (number(values, 152), number(values, 153)) == ((BOOT + NS) // TICK, (BOOT + 2 * NS) // TICK)


@pytest.mark.parametrize("source, protocol, element", [("10.0.0.1", ICMP, 32), ("fd00::1", ICMPV6, 139)])
def test_icmp_has_type_and_code(source: str, protocol: int, element: int) -> None:
    (values,) = exported(snapshot([flow(key(source, source, (3, 1), protocol))]))
    assert (number(values, element), number(values, 4)) == (0x0301, protocol)
    assert 7 not in values


def test_ipv6_flow_has_long_addresses() -> None:
    (values,) = exported(snapshot([flow(key("fd00::1", "fd00::2", (5, 6), UDP))]))
    assert (address(values, 27), address(values, 28)) == ("fd00::1", "fd00::2")


@pytest.mark.parametrize("ends", [("10.0.0.1", "fd00::2"), ("fd00::2", "10.0.0.1")])
@pytest.mark.parametrize("flags", [0, INNER])
def test_ipv4_address_at_one_end_alone_is_written_as_ipv6_does(ends: tuple[str, str], flags: int) -> None:
    """::ffff:10.0.0.1 in an IPv6 packet, which Python writes as ::ffff:a00:1 before version 3.13."""
    (values,) = exported(snapshot([flow(key(*ends, (5, 6), UDP, ethertype=IPV6_TYPE, flags=flags))]))
    assert {ip_address(values[element]) for element in (27, 28)} == {
        ip_address("::ffff:10.0.0.1"),
        ip_address("fd00::2"),
    }
    assert number(values, 256) == IPV6_TYPE


def test_roce_has_its_port_and_no_queue_pair() -> None:
    (values,) = exported(snapshot([flow(roce(dst_qpn=0x123456))]))
    assert (number(values, 7), number(values, 11), number(values, 4)) == (0, 4791, UDP)


def test_what_has_no_addresses_is_told_by_ethertype() -> None:
    arp, lldp = key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP), key("", "", (0, 0), 0, ethertype=0x88CC)
    first, second = exported(snapshot([flow(arp), flow(lldp, 3)]))
    assert (number(first, 256), address(first, 8)) == (ARP, "10.0.0.1")
    assert (number(second, 256), number(second, 2)) == (0x88CC, 3)
    assert 8 not in second


OUT = key("192.168.1.1", "192.168.1.100", (12345, 80), flags=EGRESS)


def test_directions_of_a_connection_share_a_record_if_asked_for() -> None:
    taken = snapshot([flow(OUT, 20, 9000, tcp_flags=0x10), flow(key(), 10, 1500), flow(key(ports=(81, 5)))])
    assert len(exported(taken)) == 3
    both, alone = exported(taken, biflow=True)
    assert (address(both, 8), number(both, 2), number(both, 1), number(both, 61)) == ("192.168.1.100", 10, 1500, 0)
    assert (number(both, REVERSE, 2), number(both, REVERSE, 1), number(both, REVERSE, 352)) == (20, 9000, 9000)
    assert (number(both, REVERSE, 6), number(both, REVERSE, 152)) == (0x10, (BOOT + NS) // TICK)
    assert number(alone, 7) == 81


@pytest.mark.parametrize(
    "flows",
    [
        [key(), OUT._replace(slot=1)],
        [key(), OUT._replace(vlan_id=4)],
        [key(), OUT._replace(flags=0)],
        [key(flags=EGRESS), OUT],
        [key(flags=FRAGMENT), OUT._replace(flags=EGRESS | FRAGMENT)],
        [key(flags=FRAGMENT | LATER_FRAGMENT), OUT],
        [key(ports=(8, 8), protocol=ICMP), OUT._replace(src_port=8, dst_port=8, protocol=ICMP)],
        [roce(dst_qpn=0x10001), roce(dst_qpn=0x10001, src="10.0.0.2", dst="10.0.0.1")._replace(flags=EGRESS | 8)],
    ],
)
def test_flows_that_are_not_known_to_belong_together_stay_apart(flows: Sequence[object]) -> None:
    made = [flow(each) for each in flows]  # type: ignore[arg-type]
    assert len(exported(snapshot(made), biflow=True)) == 2


def test_messages_are_bounded_and_add_up() -> None:
    flows = [flow(key(ports=(80, each), protocol=UDP if each % 50 else ICMP), each, 100 * each) for each in range(500)]
    made = list(messages(flow_records(snapshot(flows), {}), 1400))
    assert max(message.size for message in made) <= 1400
    assert sum(message.records for message in made) == sum(message.flows for message in made) == 500
    assert sum(message.packets for message in made) == sum(record.packets for record in flows)
    assert sum(message.octets for message in made) == sum(record.bytes for record in flows)
    assert [number(values, 2) for _, values in sent(list(flow_records(snapshot(flows), {})))] == list(range(500))
    assert list(messages([], 1400)) == []


def test_reliability_is_unattributed_filtered_and_not_sent() -> None:
    flows: list[FlowRecord] = [flow(packets=10)]
    types = (PacketCount(3, 300), *[PacketCount(0, 0)] * 7)
    counts = counts_of(flows, types, PacketCount(4, 400))
    fragments = InterfaceCounts(total=PacketCount(2, 20), filtered_fragments=PacketCount(2, 20))
    taken = snapshot(flows, [(ETH0, counts), (ETH0, fragments)])
    made = sent(list(reliability_records(sums(taken), 99, 1234, Unsent(5, 6, 7))))
    metering, filtering, exporting = (values for _, values in made)
    assert [number(metering, element) for element in (149, 164, 165)] == [1, 3, 300]
    assert [number(filtering, element) for element in (302, 318, 319)] == [1, 19, 13]
    assert [number(exporting, element) for element in (144, 166, 167, 168, 42)] == [99, 5, 6, 7, 1234]


def test_interfaces_have_names() -> None:
    made = sent(list(interface_records({7: "eth0", 8: "n" * 300})))
    assert [(number(values, 10), values[82]) for _, values in made] == [(7, b"eth0"), (8, b"n" * 254)]


def test_names_of_interfaces_are_the_kernels_bytes() -> None:
    ((_, values),) = sent(list(interface_records({7: "e\udcff\u00e4"})))
    assert values[82] == b"e\xff\xc3\xa4"
