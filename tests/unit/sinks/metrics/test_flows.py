"""Which flows have series, and that every tick's samples add up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.unit.make import ARP, ETH0, ICMP, NS, UDP, counts_of, flow, key, roce, snapshot
from xtrace.model.flow import (
    EGRESS,
    FRAGMENT,
    INNER,
    LATER_FRAGMENT,
    FlowKey,
    FlowRecord,
    Interface,
    InterfaceCounts,
    PacketCount,
    Unattached,
)
from xtrace.model.flow_totals import MOST_TOTALS
from xtrace.model.words import Absence, Direction, Hook
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics import series
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.flows import DESCRIBED, FlowMetrics, flow_labels
from xtrace.sinks.metrics.sample import Interval
from xtrace.sinks.metrics.series import HALF_LIFE_NS, REMEMBERED

CONSTANT = (("host", "n1"),)
TICK = 5 * NS
BYTES, PACKETS = "xtrace_network_bytes_total", "xtrace_network_packets_total"


class Line(NamedTuple):
    name: str
    labels: dict[str, str]
    value: int
    at_ms: int


def parsed(body: bytes) -> list[Line]:
    lines = []
    for text in body.decode().splitlines():
        if not text.startswith("#"):
            name, labels, value, at = re.fullmatch(r"(\w+)\{(.*)\} (\d+) (\d+)", text).groups()  # type: ignore[union-attr]
            lines.append(Line(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), int(value), int(at)))
    return lines


class Run:
    """Ticks of five seconds, one after the other."""

    written: set[tuple[tuple[str, str], ...]]
    """labels of all series of flows so far, without `other`"""

    def __init__(self, most: int, series_by: str = "flow") -> None:
        self.metrics = FlowMetrics(MetricsOptions(most, series_by))
        self.exposition = Exposition(CONSTANT)
        self.now = 0
        self.clock_set_ns = 0
        """by how much the wall clock was set since the start"""
        self.written = set()
        self.grown: dict[tuple[str, str], int] = {}
        self._last: dict[str, int] = {}

    def tick(
        self,
        flows: Sequence[FlowRecord] = (),
        interfaces: Sequence[tuple[Interface, InterfaceCounts]] | None = None,
        length: int = TICK,
    ) -> list[Line]:
        """One interval's samples, after checking that they are in order and add up."""
        start, self.now = self.now, self.now + length
        interval = snapshot(flows, interfaces, start_ns=start, end_ns=self.now)
        interval = replace(
            interval,
            end_ns=interval.end_ns + self.clock_set_ns,
            wall_offset_ns=interval.wall_offset_ns + self.clock_set_ns,
        )
        self.exposition.add(self.metrics.samples(interval), DESCRIBED, Interval.of(interval))
        lines = parsed(self.exposition.body())
        grown = {"bytes": 0, "packets": 0}
        for line in lines:
            series = f"{line.name}{sorted(line.labels.items())}"
            if line.name == BYTES and line.labels["src_ip"] != "other":
                self.written.add(tuple(sorted(line.labels.items())))
            if line.name in (BYTES, PACKETS):
                assert line.value >= self._last.get(series, 0), "a counter decreased"
                grown["bytes" if line.name == BYTES else "packets"] += line.value - self._last.get(series, 0)
                self._last[series] = line.value
        assert grown == {"bytes": sum(f.bytes for f in flows), "packets": sum(f.packets for f in flows)}
        assert self.metrics.state()[0] <= self.metrics._most * max(1, len(self.metrics._groups))
        return lines


def sized(*sizes: int, packets: int = 1) -> list[FlowRecord]:
    """Flows of these sizes, by source port from 1 on; 0 is none."""
    return [flow(key(ports=(n, 80)), packets, size) for n, size in enumerate(sizes, start=1) if size]


def shown(lines: Sequence[Line], name: str = "xtrace_network_flow_bytes") -> dict[str, int]:
    """Values of a metric by source port, or `other`."""
    return {line.labels.get("src_port", "other"): line.value for line in lines if line.name == name}


def samples(lines: Sequence[Line], port: str, name: str = BYTES) -> list[tuple[int, int]]:
    """Value and seconds since the first interval began."""
    boot_ms = 1_767_225_600_000
    return [
        (line.value, (line.at_ms - boot_ms) // 1000)
        for line in lines
        if line.name == name and line.labels.get("src_port", "other") == port
    ]


@pytest.fixture
def without_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """New series are not limited, so that a test shows who displaces whom."""
    monkeypatch.setattr(series, "NEW_PER_HOUR", 1e9)


def test_series_begins_with_0_at_the_intervals_start_and_its_gauge_ends_with_one_0() -> None:
    run = Run(10)
    assert samples(run.tick(sized(1500)), "1") == [(0, 0), (1500, 5)]
    assert samples(run.tick(sized(500)), "1") == [(2000, 10)]
    ended = run.tick()
    assert (samples(ended, "1"), shown(ended)) == ([], {"1": 0})
    assert shown(run.tick()) == {}


def test_flow_that_returns_continues_from_its_old_value_at_the_start_of_that_interval() -> None:
    run = Run(10)
    run.tick(sized(1500))
    run.tick()
    run.tick()
    assert samples(run.tick(sized(100)), "1") == [(1500, 15), (1600, 20)]


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_wall_clock_that_is_set_makes_no_flow_older_or_younger(step_s: int) -> None:
    """Five minutes are of the monotonic clock; samples carry the wall clock's time."""
    run = Run(10)
    run.tick(sized(1500))
    run.tick()
    run.clock_set_ns = step_s * NS
    assert samples(run.tick(sized(100)), "1") == [(1500, 10 + step_s), (1600, 15 + step_s)]
    for _ in range(62):
        run.tick()
    run.clock_set_ns = 0
    run._last.clear()
    assert samples(run.tick(sized(100)), "1") == [(0, 325), (100, 330)]


def test_flow_that_returns_after_more_than_five_minutes_is_a_new_series() -> None:
    run = Run(10)
    run.tick(sized(1500))
    for _ in range(59):
        run.tick()
    assert run.metrics.state() == (1, 0)
    run.tick()
    assert run.metrics.state() == (0, 0)
    run._last.clear()
    assert samples(run.tick(sized(100)), "1") == [(0, 305), (100, 310)]


def test_intervals_longer_than_the_retention_end_gauges_and_continue_counters() -> None:
    run = Run(10)
    run.tick(sized(1500, 10), length=3600 * NS)
    lines = run.tick(sized(500), length=3600 * NS)
    assert (samples(lines, "1"), shown(lines)) == ([(2000, 7200)], {"1": 500, "2": 0})


def test_largest_flows_have_series_and_the_rest_is_one() -> None:
    run = Run(2)
    lines = run.tick(sized(10, 400, 20, 300, 30))
    assert shown(lines) == {"2": 400, "4": 300, "other": 60}
    assert samples(lines, "other") == [(0, 0), (60, 5)]
    (other,) = {(line.labels["src_ip"], line.labels["dst_ip"]) for line in lines if "other" in line.labels.values()}
    assert other == ("other", "other")


def test_flows_of_similar_size_do_not_take_turns() -> None:
    run = Run(2)
    run.tick(sized(100, 100, 90, 90))
    for sizes in ((90, 90, 180, 180), (100, 0, 170, 150), (80, 120, 100, 100)):
        assert {"3", "4"} & set(shown(run.tick(sized(*sizes)))) == set()


@pytest.mark.usefixtures("without_budget")
def test_flows_beyond_the_last_free_place_are_in_the_rest() -> None:
    run = Run(3)
    run.tick(sized(100, 100))
    assert shown(run.tick(sized(100, 100, 90, 80, 70))) == {"1": 100, "2": 100, "3": 90, "other": 150}


@pytest.mark.usefixtures("without_budget")
def test_flow_twice_as_large_takes_the_place_of_the_smallest_whose_gauge_ends() -> None:
    run = Run(2)
    run.tick(sized(100, 300, 50))
    lines = run.tick(sized(100, 300, 201))
    assert shown(lines) == {"1": 0, "2": 300, "3": 201, "other": 100}
    assert run.metrics.state() == (2, 1)


@pytest.mark.usefixtures("without_budget")
def test_flow_that_lost_its_place_and_gets_it_again_continues_its_counter() -> None:
    run = Run(1)
    run.tick(sized(100))
    run.tick(sized(100, 1000))
    assert samples(run.tick(sized(5000, 1000)), "1") == [(100, 10), (5100, 15)]


@pytest.mark.usefixtures("without_budget")
def test_idle_flow_loses_its_place_in_time_to_one_of_its_own_size() -> None:
    run = Run(1)
    run.tick(sized(100))
    assert shown(run.tick(sized(0, 100))) == {"1": 0, "other": 100}
    run.tick((), length=HALF_LIFE_NS)
    assert shown(run.tick(sized(0, 100))) == {"2": 100}


def test_other_never_decreases_after_a_silence() -> None:
    run = Run(1)
    run.tick(sized(100, 10))
    for _ in range(100):
        run.tick(sized(100))
    assert samples(run.tick(sized(100, 10)), "other") == [(10, 505), (20, 510)]


def test_remembered_counters_are_bounded() -> None:
    run = Run(3)
    for number in range(1, 200):
        run.tick([flow(key(ports=(port, 80)), 1, 3 ** (number // 6)) for port in (number, number + 200, number + 400)])
        places, remembered = run.metrics.state()
        assert places <= 3 and remembered <= 3 * REMEMBERED


def test_interface_that_comes_back_in_another_slot_within_an_interval_has_one_series_per_flow() -> None:
    run = Run(10)
    again = ETH0._replace(slot=3)
    flows = [flow(key(slot=0), 1, 100), flow(key(slot=3), 2, 200)]
    counts = [(ETH0, counts_of(flows[:1])), (again, counts_of(flows[1:]))]
    assert samples(run.tick(flows, counts), "80") == [(0, 0), (300, 5)]
    assert samples(run.tick(flows[1:], counts[1:]), "80") == [(500, 10)]


def test_interfaces_that_are_attached_and_those_that_should_be_are_counted() -> None:
    metrics = FlowMetrics(MetricsOptions(1))
    absent = [Unattached("eth1", reason, "") for reason in Absence]
    metrics.samples(replace(snapshot(), attached=2, unattached=tuple(absent)))
    values = metrics.own(None)
    assert values["xtrace_catch_interfaces_attached"] == 2
    assert values["xtrace_catch_interfaces_unattached"] == len(Absence) - 1, "a glob may match what takes no program"


def test_directions_and_interfaces_have_series_of_their_own() -> None:
    run = Run(1)
    egress = Interface("eth0", 0, Hook.TC, direction=Direction.EGRESS)
    other = Interface('e"1', 1, Hook.TC)
    flows = [flow(key(), 1, 100), flow(key(flags=EGRESS), 2, 200), flow(key(slot=1), 3, 300)]
    lines = run.tick(flows, [(i, counts_of([f])) for i, f in zip((ETH0, egress, other), flows, strict=True)])
    found = {(line.labels["interface"], line.labels["direction"], line.value) for line in lines if line.name == PACKETS}
    assert found >= {("eth0", "ingress", 1), ("eth0", "egress", 2), ("e\\", "ingress", 3)}


def test_interface_and_its_losses_are_counters_that_begin_with_0() -> None:
    run = Run(10)
    lost = (PacketCount(2, 120), *(PacketCount(0, 0),) * 8)
    lines = run.tick(sized(1500), [(ETH0, counts_of(sized(1500), lost, PacketCount(3, 180)))])
    values: dict[str, list[int]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)
        assert line.labels["host"] == "n1"
    assert values["xtrace_interface_bytes_total"] == [0, 1800]
    assert values["xtrace_interface_packets_total"] == [0, 6]
    assert values["xtrace_unattributed_bytes_total"] == [0, 120]
    assert values["xtrace_unattributed_packets_total"] == [0, 2]
    assert values["xtrace_filtered_bytes_total"] == [0, 180]
    assert values["xtrace_filtered_packets_total"] == [0, 3]
    assert set(values) == {name for name in DESCRIBED if not name.startswith(("xtrace_nic_", "xtrace_qdisc_"))}


def test_drops_of_the_queue_are_a_counter_where_they_are_known() -> None:
    run = Run(10)
    egress = Interface("eth0", 0, Hook.TC, direction=Direction.EGRESS)

    def dropped(known: int | None) -> list[tuple[int, int]]:
        lines = run.tick((), [(egress, replace(counts_of(()), qdisc_drops=known))])
        return [(line.value, line.at_ms // 1000 % 100) for line in lines if line.name == "xtrace_qdisc_drops_total"]

    assert dropped(None) == []
    assert dropped(7) == [(0, 5), (7, 10)]
    assert dropped(2) == [(9, 15)]


def test_nic_counters_are_written_when_known() -> None:
    run = Run(10)
    name = "xtrace_nic_packets_total"

    def nic(known: PacketCount | None) -> list[tuple[int, int]]:
        lines = run.tick((), [(ETH0, replace(counts_of(()), nic=known))])
        return [(line.value, line.at_ms // 1000 % 100) for line in lines if line.name == name]

    assert nic(None) == []
    assert nic(PacketCount(7, 700)) == [(0, 5), (7, 10)]
    assert nic(PacketCount(0, 0)) == [(7, 15)]
    assert nic(None) == []
    assert nic(PacketCount(1, 60)) == [(7, 20), (8, 25)]


def test_interface_that_is_gone_is_not_written_and_continues_when_it_is_back() -> None:
    run = Run(10)
    name = "xtrace_interface_bytes_total"
    run.tick(sized(1500))
    gone = run.tick((), [])
    assert shown(gone) == {"1": 0}
    assert not [line for line in gone if line.name == name]
    assert [line.value for line in run.tick(sized(100)) if line.name == name] == [1500, 1600]


def test_interfaces_beyond_the_limit_share_one_name() -> None:
    metrics = FlowMetrics(MetricsOptions(1))
    for number in range(0, MOST_TOTALS + 100, 100):
        interfaces = [(Interface(f"veth{number + n}", n), counts_of(())) for n in range(100)]
        metrics.samples(snapshot((), interfaces))
    assert len(metrics._groups) == MOST_TOTALS + 1


@pytest.mark.parametrize(
    "where, expected",
    [
        (
            key(),
            "src_ip=192.168.1.100 dst_ip=192.168.1.1 src_port=80 dst_port=12345 protocol=6 traffic_type=TCP",
        ),
        (
            key("fd00::1", "fd00::2", (8, 0), ICMP, vlan_id=7)._replace(protocol=58),
            "src_ip=fd00::1 dst_ip=fd00::2 src_port=0 dst_port=0 protocol=58 traffic_type=ICMP"
            " icmp_type=8 icmp_code=0 vlan=7",
        ),
        (
            key("10.0.0.1", "10.0.0.2", (5, 6), UDP, vlan_id=1 << 12 | 7)._replace(
                src_qpn=42, ethertype=0x4000 | 8, flags=INNER
            ),
            "src_ip=10.0.0.1 dst_ip=10.0.0.2 src_port=5 dst_port=6 protocol=17 traffic_type=UDP"
            " vlan=7 inner_vlan=8 tunnel=vxlan vni=42",
        ),
        (
            roce(8, 193),
            "src_ip=10.0.0.1 dst_ip=10.0.0.2 src_port=0 dst_port=0 protocol=17 traffic_type=RoCE_v2"
            " dst_qpn=193 opcode=8",
        ),
        (
            roce(100, 17, 99),
            "src_ip=10.0.0.1 dst_ip=10.0.0.2 src_port=0 dst_port=0 protocol=17 traffic_type=RoCE_v2"
            " src_qpn=99 dst_qpn=17 opcode=100",
        ),
        (
            key("", "", (0, 0), 0, ethertype=0x88CC),
            "src_port=0 dst_port=0 ethertype=35020 traffic_type=Other",
        ),
        (
            key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP),
            "src_ip=10.0.0.1 dst_ip=10.0.0.2 src_port=0 dst_port=0 ethertype=2054 traffic_type=ARP",
        ),
        (
            key("10.0.0.1", "10.0.0.2", (5, 6), UDP, flags=FRAGMENT),
            "src_ip=10.0.0.1 dst_ip=10.0.0.2 src_port=5 dst_port=6 protocol=17 traffic_type=UDP fragment=first",
        ),
        (
            key("10.0.0.1", "10.0.0.2", (0, 0), UDP, flags=FRAGMENT | LATER_FRAGMENT),
            "src_ip=10.0.0.1 dst_ip=10.0.0.2 src_port=0 dst_port=0 protocol=17 traffic_type=UDP fragment=later",
        ),
    ],
)
def test_labels_name_a_flow_as_its_record_does(where: FlowKey, expected: str) -> None:
    assert " ".join(f"{name}={value}" for name, value in flow_labels(where)) == expected


def test_two_keys_with_equal_labels_do_not_share_a_series() -> None:
    """An IPv6 packet with mapped addresses reads as IPv4's."""
    run = Run(10)
    twins = [flow(key(), 1, 200), flow(key(ethertype=0x86DD), 1, 100)]
    lines = run.tick(twins)
    assert shown(lines) == {"80": 200, "other": 100}


HOUR_TICKS = 3600 * NS // TICK
CHURN = 200
"""New flows per tick, of one packet each, with twice as many a tick as there are places."""
LONG, HEAVY = (50_000, 443), (50_001, 443)


def churn(number: int) -> list[FlowRecord]:
    """Return a tick's flows from new ports, none of which comes again."""
    first = number * CHURN
    return [
        flow(key(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", ports=(n % 50_000, 53), protocol=UDP), 1, 100 + n % 7)
        for n in range(first, first + CHURN)
    ]


def test_an_hour_of_short_flows_makes_at_most_twice_as_many_series_as_there_are_places() -> None:
    run = Run(100)
    admitted: dict[int, int] = {}
    for number in range(HOUR_TICKS):
        flows = churn(number)
        if number >= HOUR_TICKS // 3:  # no more bytes in a tick than others, but in all
            flows.append(flow(key(ports=LONG), 1, 106))
        if number >= HOUR_TICKS // 2:
            flows.append(flow(key(ports=HEAVY), 1, 9000))
        shown_ports = shown(run.tick(flows))
        for port in (LONG[0], HEAVY[0]):
            if str(port) in shown_ports:
                admitted.setdefault(port, number)
    assert 150 < len(run.written) <= 200
    # a place in 36 s, seven ticks, for whoever has most
    assert admitted[LONG[0]] - HOUR_TICKS // 3 <= 16
    assert admitted[HEAVY[0]] - HOUR_TICKS // 2 <= 8


def test_flow_that_is_known_costs_nothing_of_the_budget() -> None:
    run = Run(3)
    run.tick(sized(100, 100, 100))
    for _ in range(70):
        run.tick()
    assert run.metrics.state() == (0, 0)
    run._last.clear()
    # 350 s gave a third of a series
    assert shown(run.tick(sized(100, 100, 0, 100))) == {"1": 100, "2": 100, "other": 100}


def test_budget_that_was_not_used_does_not_grow_beyond_the_places() -> None:
    run = Run(2)
    run.tick((), length=50 * 3600 * NS)
    run.tick(sized(100, 100))
    for _ in range(100):
        run.tick()
    lines = run.tick([flow(key(ports=(port, 80)), 1, 100) for port in (7, 8, 9)])
    assert shown(lines) == {"other": 300}


WEB, CLIENTS = 443, range(40_000, 40_050)


def connections() -> list[FlowRecord]:
    """Return flows of many clients of one service, both ways, and others."""
    return [
        *(flow(key("10.0.0.1", "10.0.0.2", (client, WEB)), 1, 100) for client in CLIENTS),
        *(flow(key("10.0.0.2", "10.0.0.1", (WEB, client)), 2, 300) for client in CLIENTS),
        flow(key("10.0.0.1", "10.0.0.2", (123, 123), UDP), 1, 90),
        flow(key("10.0.0.1", "10.0.0.2", (8, 0), ICMP), 1, 98),
        flow(roce(8, 193, 99), 4, 400),
        flow(roce(8, 194, 98), 4, 400),
    ]


def named(lines: Sequence[Line]) -> dict[str, int]:
    """Return the gauges of bytes by the labels of their series, without interface, direction and host."""
    hidden = ("interface", "direction", "host", "dst_ip", "protocol", "traffic_type")
    return {
        " ".join(f"{name}={value}" for name, value in line.labels.items() if name not in hidden): line.value
        for line in lines
        if line.name == "xtrace_network_flow_bytes"
    }


@pytest.mark.parametrize(
    "series_by, expected",
    [
        (
            "service",
            {
                "src_ip=10.0.0.1 src_port=0 dst_port=443": 5000,
                "src_ip=10.0.0.2 src_port=443 dst_port=0": 15_000,
                "src_ip=10.0.0.1 src_port=123 dst_port=123": 90,
                "src_ip=10.0.0.1 src_port=0 dst_port=0 icmp_type=8 icmp_code=0": 98,
                "src_ip=10.0.0.1 src_port=0 dst_port=0 src_qpn=99 dst_qpn=193 opcode=8": 400,
                "src_ip=10.0.0.1 src_port=0 dst_port=0 src_qpn=98 dst_qpn=194 opcode=8": 400,
            },
        ),
        (
            "hosts",
            {
                "src_ip=10.0.0.1": 5000 + 90,
                "src_ip=10.0.0.2": 15_000,
                "src_ip=10.0.0.1 icmp_type=8 icmp_code=0": 98,
                "src_ip=10.0.0.1 opcode=8": 800,
            },
        ),
    ],
)
def test_connections_share_series_by_service_and_by_hosts(series_by: str, expected: dict[str, int]) -> None:
    run = Run(10, series_by)
    lines = run.tick(connections())
    by_type = [line for line in lines if line.labels.get("traffic_type") == "UDP"]
    if series_by == "hosts":  # TCP and UDP between the same hosts differ in their protocol
        assert {line.value for line in by_type if line.name == "xtrace_network_flow_bytes"} == {90}
        lines = [line for line in lines if line not in by_type]
        expected = {**expected, "src_ip=10.0.0.1": 5000}
    assert named(lines) == expected
    run.tick(connections()[:3])


def test_with_counters_only_flows_have_no_gauges_and_their_ends_are_noted() -> None:
    run = Run(1)
    run.metrics = FlowMetrics(MetricsOptions(1, flow_gauges=False))
    for length in (TICK, TICK, 301 * NS):
        flows = [flow(key(), 1, 100)] if length == TICK else []
        assert {line.name for line in run.tick(flows, length=length)}.isdisjoint(
            {"xtrace_network_flow_bytes", "xtrace_network_flow_packets"}
        )
    assert run.metrics.state() == (0, 0)
