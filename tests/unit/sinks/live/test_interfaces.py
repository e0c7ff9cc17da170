"""The panes of interfaces and of flows: every cell, order and line, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.make import ARP, ETH0, ICMP, NS, UDP, counts_of, flow, key, snapshot
from xtrace.model.flow import EGRESS, FlowSnapshot, Interface, InterfaceCounts, PacketCount, Unattached
from xtrace.model.words import Absence, Direction, Hook, Share
from xtrace.sinks.live.flows import FlowPane
from xtrace.sinks.live.interfaces import InterfacePane
from xtrace.sinks.live.pane import View
from xtrace.sinks.live.words import matcher

VIEW = View()
ONLY_OUT = View(way=Direction.EGRESS, in_bits=False)
ETH0_OUT = ETH0._replace(direction=Direction.EGRESS, hook=Hook.TC, xdp_mode=None)
ETH1 = Interface("eth1", slot=1)
ETH2 = Interface("eth2", slot=2, is_up=False)

FLOWS = (
    flow(key("10.0.0.3", "10.0.0.9", (1, 443)), 40, 60_000, tcp_flags=0x12),
    flow(key("10.0.0.1", "10.0.0.8", (2, 443)), 50, 5_000),
    flow(key("10.0.0.2", "10.0.0.7", (443, 3), UDP, flags=EGRESS), 1, 10_000),
    flow(key("10.0.0.4", "10.0.0.6", (4, 5), UDP, slot=1), 7, 30_000),
)


def interval() -> FlowSnapshot:
    """Five seconds; eth1 was there for two of them, eth2 is down and carried nothing."""
    into = replace(
        counts_of(FLOWS[:2], (PacketCount(3, 300), *[PacketCount(0, 0)] * 7), PacketCount(4, 700)),
        coverage=Share.PARTIAL,
        filtered_fragments=PacketCount(0, 0),
    )
    out = replace(counts_of(FLOWS[2:3]), qdisc_drops=9, coverage=Share.FULL)
    brief = replace(counts_of(FLOWS[3:]), interval_ns=2 * NS)
    return snapshot(FLOWS, [(ETH0, into), (ETH0_OUT, out), (ETH1, brief), (ETH2, InterfaceCounts())])


def taken(pane: Any, *snapshots: FlowSnapshot) -> Any:
    for each in snapshots or (interval(),):
        pane.note(each)
        pane.take(each)
    return pane


def table(pane: Any, view: View = VIEW, order: str = "rate") -> list[list[str]]:
    rows = [pane.row(entry, view).cells for entry in pane.entries(view, order)]
    return [[column.heading for column in pane.columns(view)], *([str(cell).strip() for cell in row] for row in rows)]


def test_interfaces() -> None:
    """13,200 bits and 19.4 packets a second enter eth0: 66,000 bytes and 97 packets in five seconds."""
    pane = taken(InterfacePane())
    assert table(pane) == [
        ["INTERFACE", "IN BIT/S", "PACKETS/S", "FLOWS", "OUT BIT/S", "PACKETS/S", "FLOWS", ""],
        [
            *("eth0", "105.6 k", "19", "2", "16.0 k", "0.2", "1"),
            "in unattributed 3; in filtered 4; in coverage partial; out dropped by the queue 9",
        ],
        ["eth1", "120.0 k", "3.5", "1", "-", "-", "-", ""],
        ["eth2", "0", "0", "0", "-", "-", "-", "down or without carrier"],
    ]
    assert table(pane, ONLY_OUT) == [
        ["INTERFACE", "OUT BYTE/S", "PACKETS/S", "FLOWS", ""],
        ["eth0", "2.0 k", "0.2", "1", "out dropped by the queue 9"],
        ["eth1", "-", "-", "-", ""],
        ["eth2", "-", "-", "-", "down or without carrier"],
    ]
    assert [pane.row(entry, VIEW).style for entry in pane.entries(VIEW, "name")] == ["33", "", "33"]
    assert [row[0] for row in table(pane, order="packets")[1:]] == ["eth0", "eth1", "eth2"]
    assert [row[0] for row in table(pane, order="name")[1:]] == ["eth0", "eth1", "eth2"]
    assert [(column.is_number, column.order) for column in pane.columns(ONLY_OUT)] == [
        *((False, "name"), (True, "rate"), (True, "packets"), (True, ""), (False, "")),
    ]


def test_the_detail_of_an_interface_has_the_exact_counts() -> None:
    pane = taken(InterfacePane())
    detail = pane.detail("eth0", VIEW)
    assert detail.lines == [
        "eth0",
        "in  105.6 kbit/s, 66000 bytes, 97 packets in 5.0 s, 2 flows, unattributed 3 packets 300 bytes,"
        " filtered 4 packets 700 bytes, coverage partial (at xdp native)",
        "out 16.0 kbit/s, 10000 bytes, 1 packets in 5.0 s, 1 flow, then dropped by the queue 9 (at tc)",
    ]
    assert [(series.title, list(series.rates), series.span_s) for series in detail.series] == [
        ("in ", [13_200], 5),
        ("out", [2_000], 5),
    ]
    assert pane.detail("eth0", ONLY_OUT).lines[1:] == [
        "out 2.0 kB/s, 10000 bytes, 1 packets in 5.0 s, 1 flow, then dropped by the queue 9 (at tc)"
    ]
    assert pane.detail("eth1", VIEW).lines[1].startswith("in  120.0 kbit/s, 30000 bytes, 7 packets in 2.0 s, 1 flow")
    assert pane.detail("eth2", VIEW).lines[0] == "eth2, down or without carrier"
    assert pane.detail("eth9", VIEW).lines == ["eth9 is not monitored now"]


def test_the_busiest_interfaces_are_first_and_what_is_wanted_and_absent_before_all() -> None:
    shown = interval()
    pane = taken(InterfacePane())
    assert pane.summary(VIEW) == "eth0 in 105.6 kbit/s out 16.0 kbit/s, eth1 in 120.0 kbit/s, eth2 in 0 bit/s"
    absent = (
        Unattached("eth3", Absence.NOT_FOUND, "no such device"),
        Unattached("eth4", Absence.REFUSED, "busy", is_named=True),
        Unattached("lo", Absence.REFUSED, "it takes no program"),
    )
    pane = taken(InterfacePane(), replace(shown, unattached=absent))
    assert pane.summary(VIEW) == "not monitored: eth3: no such device, eth4: busy"


def test_an_interface_is_found_by_its_name() -> None:
    pane = taken(InterfacePane())
    assert [entry.name for entry in pane.entries(View(chosen=matcher("eth[01]")), "name")] == ["eth0", "eth1"]
    assert pane.size() == 3


def test_flows() -> None:
    pane = taken(FlowPane())
    assert table(pane) == [
        ["", "TYPE", "BIT/S", "PACKETS/S", "SOURCE", "DESTINATION", "INTERFACE", ""],
        ["in", "TCP", "96.0 k", "8.0", "10.0.0.3:1", "10.0.0.9:443", "eth0", ""],
        ["in", "UDP", "120.0 k", "3.5", "10.0.0.4:4", "10.0.0.6:5", "eth1", ""],
        ["out", "UDP", "16.0 k", "0.2", "10.0.0.2:443", "10.0.0.7:3", "eth0", ""],
        ["in", "TCP", "8.0 k", "10", "10.0.0.1:2", "10.0.0.8:443", "eth0", ""],
    ]
    sources = {order: [row[4] for row in table(pane, order=order)[1:]] for order in pane.orders}
    one, two, three, four = "10.0.0.1:2", "10.0.0.2:443", "10.0.0.3:1", "10.0.0.4:4"
    assert sources == {
        "rate": [three, four, two, one],
        "packets": [one, three, four, two],
        "source": [one, two, three, four],
        "destination": [four, two, one, three],
    }
    assert [row[4] for row in table(pane, ONLY_OUT)[1:]] == [two]
    assert [row[4] for row in table(pane, View(chosen=matcher("eth1")))[1:]] == [four]
    assert (pane.size(), pane.summary(ONLY_OUT).split(",")[0]) == (4, "eth0 in 13.2 kB/s out 2.0 kB/s")


def test_the_detail_of_a_flow_has_the_exact_counts() -> None:
    pane = taken(FlowPane())
    first, *_ = pane.entries(VIEW, "rate")
    assert pane.detail(pane.key(first), VIEW).lines == [
        "TCP  10.0.0.3:1 -> 10.0.0.9:443",
        "eth0 in, 5.0 s",
        "96.0 kbit/s, 60000 bytes",
        "8.0 packets/s, 40 packets, mean 1500 B",
        "TCP flags SYN,ACK",
    ]
    (brief,) = pane.entries(View(chosen=matcher("eth1")), "rate")
    assert pane.detail(pane.key(brief), VIEW).lines[1:] == [
        "eth1 in, 2.0 s",
        "120.0 kbit/s, 30000 bytes",
        "3.5 packets/s, 7 packets, mean 4286 B",
    ]


def test_what_an_icmp_flow_was_is_told_by_name_and_numbers() -> None:
    pane = taken(FlowPane(), snapshot([flow(key("10.0.0.1", "10.0.0.2", (8, 0), ICMP), 2, 196)]))
    (entry,) = pane.entries(VIEW, "rate")
    assert "INTERFACE" not in table(pane)[0]
    lines = pane.detail(pane.key(entry), VIEW).lines
    assert lines[0] == "ICMP  10.0.0.1 -> 10.0.0.2  echo"
    assert lines[4:] == ["type=8 code=0"]


def test_a_flow_keeps_its_history_where_its_interface_gets_another_slot() -> None:
    """Slots are given again; a flow is known by its interface's name."""
    first = snapshot([flow(key(slot=0), 1, 1000)], [(Interface("eth7", slot=0), counts_of([flow(key())]))])
    moved = snapshot([flow(key(slot=0), 1, 500)], [(Interface("eth8", slot=0), counts_of([flow(key())]))])
    pane = taken(FlowPane(), first, moved)
    (entry,) = pane.entries(VIEW, "rate")
    assert list(pane.detail(pane.key(entry), VIEW).series[0].rates) == [100]


@pytest.mark.parametrize("number, known", [(249, True), (250, True), (251, False)])
def test_the_history_begins_with_the_250_largest_flows(number: int, known: bool) -> None:
    flows = [flow(key(ports=(rank, 443)), 1, 1000 - rank) for rank in range(1, 300)]
    pane = taken(FlowPane(), snapshot(flows))
    entry = pane.entries(VIEW, "rate")[number - 1]
    assert bool(pane.detail(pane.key(entry), VIEW).series[0].rates) == known


def test_a_flow_that_became_small_keeps_its_history() -> None:
    large = [flow(key(ports=(rank, 443)), 1, 100_000) for rank in range(1, 260)]
    pane = FlowPane()
    for size in (200_000, 50, None, 100):
        own = [] if size is None else [flow(key(ports=(999, 443)), 1, size)]
        taken(pane, snapshot([*large, *own]))
    (entry,) = pane.entries(View(chosen=matcher("999")), "rate")
    assert list(pane.detail(pane.key(entry), VIEW).series[0].rates) == [40_000, 10, 0, 20]


def test_frames_without_addresses_are_rows_too() -> None:
    arp, lldp = key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP), key("", "", (0, 0), 0, ethertype=0x88CC)
    pane = taken(FlowPane(), snapshot([flow(arp, 1, 60), flow(lldp, 1, 50)]))
    assert [row[4:6] for row in table(pane)[1:]] == [["10.0.0.1", "10.0.0.2"], ["-", "-"]]
