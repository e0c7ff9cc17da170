"""Whatever comes is counted once: in its flow, or as unattributed where the table is full."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.case import flow4, over_ipv6
from tests.kernel.cases import SHORT_CASES
from tests.kernel.counter import FULL, INGRESS, XDP, Counter, counting, expected, present, read
from tests.kernel.reference import parse
from tests.kernel.traffic import FIRST, MANY, flipped, frame_of, frames_of, segment, shuffled, size_of
from tests.support.build import compile_bpf
from tests.support.frames import (
    ACK,
    FIN,
    ICMPV6,
    IPV4,
    IPV6,
    SYN,
    TCP,
    UDP,
    VLAN,
    ethernet,
    icmp,
    ipv4,
    ipv6,
    udp,
    vlan,
)
from xtrace.kernel import syscall
from xtrace.kernel.syscall import lib
from xtrace.model.flow import FlowKey, InterfaceCounts, PacketCount
from xtrace.model.words import Direction
from xtrace.monitors.flows import tables
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import Drained, Place, load_object_spec

# flows


def test_flow_that_another_cpu_inserts_in_between_is_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookup and insertion are two steps; here the lookup misses flows that are there."""
    racing = compile_bpf(Path(__file__).parent / "late_lookup.c")
    monkeypatch.setattr(tables, "load_object_spec", lambda mapped: racing)
    frames = [frame_of(flow) for _ in range(5) for flow in range(3)] + [segment(flags) for flags in (SYN, ACK, FIN)]
    with counting(Plan.make(FULL), present()._replace(realtime=True, cmpxchg=False)) as counter:
        interval = counter.measure(frames)
        looked = int.from_bytes(counter.tables._maps["looked"].lookup(bytes(4)) or b"", "little")
    assert interval.sums == expected(frames)
    assert interval.unattributed == {}
    assert looked > len(frames), "no insertion came too late: the test shows nothing"


def test_packets_of_one_flow_add_up(variant: Counter) -> None:
    variant.count(FIRST, repeat=1000)
    variant.count(FIRST, repeat=234)
    assert variant.take().sums == {parse(FIRST).key: (1234, 1234 * len(FIRST), 0)}


def test_tcp_flags_of_a_flow_are_ored(variant: Counter) -> None:
    for flags in (SYN, ACK, ACK, FIN | ACK):
        variant.count(segment(flags))
        variant.count(segment(0, port=1025))  # takes the flow's place in a cache of one entry
    sums = variant.take().sums
    assert sums[flow4(TCP, 1024, 80)] == (4, 4 * 54, SYN | ACK | FIN)
    assert sums[flow4(TCP, 1025, 80)] == (4, 4 * 54, 0)


def test_every_pair_of_tcp_flags_is_ored(variant: Counter) -> None:
    frames = [segment(1 << bit, port=8 * one + other) for one in range(8) for other in range(8) for bit in (one, other)]
    assert variant.measure(shuffled(frames)).sums == expected(frames)


def test_flows_that_differ_in_one_bit_are_told_apart(variant: Counter) -> None:
    base = over_ipv6(UDP, udp(1024, 80))
    addresses_and_ports = range(8 * 22, 8 * 58)
    others = [flipped(base, bit) for bit in addresses_and_ports]
    frames = [frame for other in others for frame in (base, other)]
    sums = variant.measure(frames).sums
    assert sums == expected(frames)
    assert len(sums) == 1 + len(others)


def test_many_flows_lose_nothing(variant: Counter) -> None:
    frames = shuffled([frame for flow in range(MANY) for frame in [frame_of(flow)] * (1 + flow % 3)])
    interval = variant.measure(frames)
    assert len(interval.flows) == MANY
    assert interval.sums == expected(frames)
    assert interval.total == size_of(frames)


def last_byte(number: int) -> str:
    """An address of IPv6."""
    return f"fd00::{number:x}"


ALIKE = {
    "ends of IPv6": [
        ethernet(IPV6, ipv6(UDP, udp(1024, 80, bytes(18)), src=last_byte(one), dst=last_byte(other)))
        for one in range(0, 256, 4)
        for other in range(0, 256, 4)
    ],
    "messages of IPv6": [
        ethernet(IPV6, ipv6(ICMPV6, icmp(128, 0, bytes(18)), src=last_byte(one), dst=last_byte(other)))
        for one in range(64)
        for other in range(64)
    ],
    "tags": [
        ethernet(VLAN, vlan(tag, IPV4, ipv4(UDP, udp(1024, 80, bytes(18)), dst=f"10.0.0.{other}")))
        for tag in range(0, 4096, 64)
        for other in range(0, 256, 4)
    ],
    "fragments": [
        ethernet(IPV4, ipv4(UDP, udp(1024, 80, bytes(24)), src=f"10.0.1.{one}", dst=f"10.0.0.{other}", more=True))
        for one in range(0, 256, 4)
        for other in range(0, 256, 4)
    ],
}
"""Flows that differ in the upper bits alone of two words of their keys."""


@pytest.mark.parametrize("kind", ALIKE)
def test_no_flows_can_be_chosen_that_the_table_has_no_places_for(variant: Counter, kind: str) -> None:
    frames = ALIKE[kind]
    interval = variant.measure(frames)
    assert interval.unattributed == {}
    assert interval.sums == expected(frames)


def test_flow_seen_by_every_cpu_is_one_record(variant: Counter, cpus: list[int]) -> None:
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        variant.count(segment(1 << cpu % 8))
    flags = sum({1 << cpu % 8 for cpu in cpus})
    assert variant.take().sums == {flow4(TCP, 1024, 80): (len(cpus), len(cpus) * 54, flags)}


def test_capacity_is_the_flows_asked_for(small: Counter) -> None:
    interval = small.measure(frames_of(FULL))
    assert interval.sums == expected(frames_of(FULL))
    assert not interval.unattributed


def test_full_table_counts_packets_as_unattributed(small: Counter) -> None:
    frames = shuffled([frame for flow in range(5 * FULL) for frame in [frame_of(flow)] * (1 + flow % 3)])
    interval = small.measure(frames)
    assert len(interval.flows) == FULL
    sent = expected(frames)
    assert all(sent[key][0] >= packets for key, (packets, _, _) in interval.sums.items())
    in_flows = PacketCount(*map(sum, list(zip(*interval.sums.values(), strict=True))[:2]))
    assert interval.unattributed == {"UDP": size_of(frames) - in_flows}


def by_traffic_type(sums: Mapping[FlowKey, tuple[int, int, int]]) -> dict[str, PacketCount]:
    found: dict[str, PacketCount] = {}
    for key, (packets, size, _) in sums.items():
        found[key.traffic_type] = found.get(key.traffic_type, PacketCount(0, 0)) + PacketCount(packets, size)
    return found


def test_full_table_counts_unattributed_packets_by_traffic_type(small: Counter) -> None:
    frames = shuffled([case.frame for case in SHORT_CASES for _ in range(3)])
    interval = small.measure(frames)
    assert len(interval.flows) == FULL
    found = by_traffic_type(interval.sums)
    for name, count in interval.unattributed.items():
        found[name] = found.get(name, PacketCount(0, 0)) + count
    assert found == by_traffic_type(expected(frames))
    assert len(interval.unattributed) > 2


def test_full_table_has_room_again_in_the_next_intervals(small: Counter) -> None:
    small.measure(frames_of(5 * FULL))
    for _ in range(3):
        interval = small.measure(frames_of(FULL))
        assert interval.sums == expected(frames_of(FULL))
        assert not interval.unattributed


# interface slots


def test_program_counts_under_its_slot() -> None:
    with counting(Plan.make(100, slots=2), slot=1) as counter:
        for frames in (frames_of(3), frames_of(5)):
            for frame in frames:
                counter.count(frame)
            drained = counter.tables.collect(counter.tables.flip())
            assert drained.counts == {(1, Direction.INGRESS): InterfaceCounts(size_of(frames))}
            assert set(read(drained).flows) == {parse(frame).key._replace(slot=1) for frame in frames}
            assert list(drained.flows.indexes(1, Direction.INGRESS)) == list(range(len(frames)))
            assert not drained.flows.indexes(0, Direction.INGRESS)


def take_of_two(counter: Counter) -> Drained:
    with counter.tables.load(XDP, Place(slot=1)) as second:
        counter.count(FIRST, repeat=3)
        second.test_run(FIRST, repeat=5)
    return counter.tables.collect(counter.tables.flip())


def test_interfaces_that_share_the_tables_do_not_mix() -> None:
    key, size = parse(FIRST).key, len(FIRST)
    with counting(Plan.make(100, slots=2)) as counter:
        for _ in range(2):
            interval = read(take_of_two(counter))
            assert interval.counts[INGRESS] == InterfaceCounts(PacketCount(3, 3 * size))
            assert interval.counts[1, Direction.INGRESS] == InterfaceCounts(PacketCount(5, 5 * size))
            assert interval.sums == {key: (3, 3 * size, 0), key._replace(slot=1): (5, 5 * size, 0)}


# what may be missing


def test_tool_counts_where_the_kernel_refuses_its_type_information(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_object_spec(present().cmpxchg)._replace(btf=b"no BTF")
    monkeypatch.setattr(tables, "load_object_spec", lambda mapped: spec)
    with counting(Plan.make(100)) as counter:
        assert counter.measure(frames_of(3)).sums == expected(frames_of(3))


class WithoutBatches:
    """The shim on a kernel that has no BPF_MAP_LOOKUP_BATCH of per-CPU arrays (before Linux 5.13)."""

    ENOTSUPP = 524

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)

    def xt_map_lookup_batch(self, *_arguments: object) -> int:
        return -self.ENOTSUPP


def test_tool_counts_where_the_kernel_has_no_batches_of_per_cpu_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall, "lib", WithoutBatches())
    having = present()
    assert not having.percpu_batch
    with counting(Plan.make(100), having) as counter:
        assert counter.measure(frames_of(3)).total == size_of(frames_of(3))
        assert counter.measure(frames_of(5)).total == size_of(frames_of(5))
