"""Flow records as C writes them, against the same said field by field in Python."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from ipaddress import IPv6Address
from typing import Any

import pytest

from tests.unit.make import ARP, BOOT, ETH0, NS, TICK, flow, key, roce, snapshot
from tests.unit.some import SOME_PROCESS, some_flow, some_origin
from xtrace.kernel.syscall import lib
from xtrace.model.flow import (
    FRAGMENT,
    HAS_SRC_QPN,
    INNER,
    LATER_FRAGMENT,
    ROCE_V2,
    TUNNELS,
    FlowRecord,
    FlowSnapshot,
    Interface,
    Origin,
    TickClock,
    select,
)
from xtrace.model.roce import opcode_name
from xtrace.model.words import XdpMode
from xtrace.sinks import flow_lines
from xtrace.sinks.jsonl.flows import flow_records
from xtrace.sinks.render import tcp_flag_names

Record = dict[str, Any]
COMMON = {"ts": "2026-01-01T00:00:05.000Z", "interval_s": 5.0, "host": 'n"1', "interface": "eth0", "direction": "in"}


def lines_of(interval: FlowSnapshot, interface: Interface = ETH0, top: int = 0) -> bytes:
    return b"".join(flow_records(interval, interface, select(interval, interface, top).chosen, COMMON))


def rendered(interval: FlowSnapshot, interface: Interface = ETH0, top: int = 0) -> list[Record]:
    return [json.loads(line) for line in lines_of(interval, interface, top).splitlines()]


def address(packed: bytes) -> str:
    read = IPv6Address(packed)
    return str(read.ipv4_mapped or read)


def utc(wall_ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=wall_ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wall_ns(interval: FlowSnapshot, tick: int) -> int:
    """A record's time as wall clock ns. The tick it is known by may lie just outside the interval."""
    monotonic = interval.clock.monotonic(tick)
    end = interval.end_ns - interval.wall_offset_ns
    return max(interval.start_monotonic_ns, min(monotonic, end)) + interval.wall_offset_ns


def expected(record: FlowRecord, interval: FlowSnapshot, interface: Interface = ETH0) -> Record:
    where, kind = record.key, record.key.traffic_type
    ports = (0, 0) if kind == "ICMP" or where.is_roce else (where.src_port, where.dst_port)
    src, dst = (address(where.src), address(where.dst)) if where.has_addresses else (None, None)
    said: Record = {"type": "flow", **COMMON, "src_ip": src, "src_port": ports[0], "dst_ip": dst, "dst_port": ports[1]}
    said |= {"protocol": where.protocol if where.is_ip else None, "traffic_type": kind}
    said |= {"packets": record.packets, "bytes": record.bytes, "units": interface.units}
    said["first_seen"] = utc(wall_ns(interval, record.first))
    said["last_seen"] = utc(wall_ns(interval, record.last))
    if kind == "TCP":
        said["tcp_flags"] = tcp_flag_names(record.tcp_flags)
    if kind == "ICMP" and not where.flags & LATER_FRAGMENT:
        said |= {"icmp_type": where.src_port, "icmp_code": where.dst_port}
    if where.is_ip or where.is_roce:
        said |= {"dscp": record.dscp, "ecn_ce_packets": record.ecn_ce_packets}
        said |= {"dscp_changed": True} if record.dscp_changed else {}
    if not where.is_ip:
        said["ethertype"] = where.ethertype
    if where.vlan:
        said["vlan"] = where.vlan
    if where.inner_vlan:
        said["inner_vlan"] = where.inner_vlan
    if where.tunnel:
        said["tunnel"] = where.tunnel
    if where.vni is not None:
        said["vni"] = where.vni
    if where.flags & FRAGMENT:
        said["fragment"] = True
    if where.is_roce:
        origin = interval.origin(interface, where)
        said |= {"src_qpn": origin.src_qpn, "dst_qpn": where.dst_qpn}
        said |= {"opcode": where.opcode, "opcode_name": opcode_name(where.opcode)}
        if origin.pid is not None:
            command = (origin.command or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            said |= {"pid": origin.pid, "command": command, "container": origin.container}
    return said


@pytest.mark.parametrize("find_origin", [None, some_origin])
@pytest.mark.parametrize("seed", range(20))
def test_every_line_says_what_its_flow_is(seed: int, find_origin: Callable[..., Origin] | None) -> None:
    chance = random.Random(seed)
    flows = [some_flow(chance) for _ in range(500)]
    interval = replace(
        snapshot(flows, start_ns=NS, end_ns=6 * NS, clock=TickClock(500, NS, TICK)), find_origin=find_origin
    )
    assert rendered(interval) == [expected(record, interval) for record in flows]


def test_fields_stand_in_the_order_of_the_documents() -> None:
    where = roce(8, 193, 194, vlan_id=7)
    where = where._replace(flags=where.flags | FRAGMENT)
    interval = replace(snapshot([flow(where)]), find_origin=lambda *_: SOME_PROCESS)
    (line,) = rendered(interval)
    assert list(line) == list(expected(flow(where), interval))
    (told_first,) = rendered(snapshot([flow(where)]))
    assert list(told_first) == list(line)[:-3], "without a process"


def test_chosen_flows_alone_are_rendered_largest_first() -> None:
    flows = [flow(key(ports=(n, 443)), size=60 + n) for n in range(50)]
    assert [line["src_port"] for line in rendered(snapshot(flows), top=3)] == [49, 48, 47]


def test_no_flow_is_no_line() -> None:
    assert lines_of(snapshot([])) == b""
    assert lines_of(snapshot([flow()]), Interface("eth1", 1)) == b""


def test_unit_of_merged_packets_is_the_frame() -> None:
    (line,) = rendered(snapshot([flow()]), Interface("eth0", 0, xdp_mode=XdpMode.GENERIC))
    assert line["units"] == "frame"


@pytest.mark.parametrize("day", ["1970-01-01", "2024-02-29", "2026-12-31", "2038-01-20", "2262-04-10"])
def test_midnight_is_passed_within_an_interval(day: str) -> None:
    end = datetime.fromisoformat(f"{day}T23:59:58+00:00")
    wall = int(end.timestamp()) * NS
    interval = replace(snapshot([flow(first_ns=0, last_ns=5 * NS)]), wall_offset_ns=wall, end_ns=wall + 5 * NS)
    (line,) = rendered(interval)
    assert line["first_seen"] == f"{day}T23:59:58.000Z"
    assert line["last_seen"] == utc(wall + 5 * NS)
    assert line["last_seen"][:10] > day


def test_every_tcp_flags_byte_comes_back_as_it_was_on_the_wire() -> None:
    lines = rendered(snapshot([flow(tcp_flags=flags) for flags in range(256)]))
    bits = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}  # RFC 9293 3.1
    for flags, line in enumerate(lines):
        named = [name for name, bit in bits.items() if flags & bit]
        assert line["tcp_flags"] == tcp_flag_names(flags) == ",".join(named)


def test_what_is_rendered_at_once_is_bounded_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_lines, "ROOM", 3000)
    flows = [flow(roce(n % 256, n)) for n in range(200)]
    interval = replace(snapshot(flows), find_origin=some_origin)
    parts = list(flow_records(interval, ETH0, range(len(flows)), {**COMMON, "labels": {"a": "x" * 5000}}))
    assert all(part.endswith(b"}\n") for part in parts)
    assert max(map(len, parts)) <= 3000 + 6000
    assert [json.loads(line)["dst_qpn"] for part in parts for line in part.splitlines()] == list(range(200))


def test_longest_line_fits_into_what_is_kept_free_for_it() -> None:
    longest = max(range(256), key=lambda opcode: len(opcode_name(opcode)))
    digits = key("1111:1111:1111:1111:1111:1111:255.255.255.255", "::", (65535, 65535), vlan_id=4095)
    rocev2 = digits._replace(src_qpn=2**32 - 1, opcode=longest, flags=ROCE_V2 | FRAGMENT | HAS_SRC_QPN, ethertype=65535)
    tcp = digits._replace(src=b"\xfd" * 16, dst=b"\xfd" * 16, flags=FRAGMENT)
    tunnel = TUNNELS.index("geneve") << 12 | 4095
    inner = rocev2._replace(src_qpn=2**32 - 1, vlan_id=tunnel, ethertype=0x6FFF, flags=ROCE_V2 | FRAGMENT | INNER)
    for where in (rocev2._replace(src=b"\xfd" * 16, dst=b"\xfd" * 16), tcp, inner):
        record = FlowRecord(where, 2**64 - 1, 2**64 - 1, 255, 2**57 - 1, 0, 0)
        assert len(lines_of(snapshot([record]))) - len(json.dumps(COMMON)) < lib.XT_LINE_LENGTH - 46


def test_wall_clock_is_told_in_utc() -> None:
    (line,) = rendered(snapshot([flow(first_ns=1_234_567_890, last_ns=4_999_999_999)]))
    assert (line["first_seen"], line["last_seen"]) == ("2026-01-01T00:00:01.234Z", "2026-01-01T00:00:04.999Z")
    assert BOOT % (86_400 * NS) == 0


@pytest.mark.parametrize(
    "record_ns, expected_ns",
    [
        (0, 10),
        (9 * NS, 10),
        (10 * NS, 10),
        (12 * NS, 12),
        (15 * NS, 15),
        (16 * NS, 15),
        (2**31 * TICK - TICK, 15),
        (2**32 * TICK - TICK, 10),
    ],
)
def test_record_times_are_clamped_into_the_interval(record_ns: int, expected_ns: int) -> None:
    (line,) = rendered(snapshot([flow(first_ns=record_ns, last_ns=record_ns)], start_ns=10 * NS, end_ns=15 * NS))
    assert line["first_seen"] == line["last_seen"] == utc(BOOT + expected_ns * NS)


@pytest.mark.parametrize("seconds", [3, -3])
def test_record_times_are_told_by_the_snapshots_clock(seconds: int) -> None:
    clock = TickClock(tick=2**32 - 5000, monotonic_ns=12 * NS - seconds * NS, tick_ns=TICK)
    record = flow()._replace(first=(2**32 - 5000 + seconds * 1000) % 2**32, last=90_000)
    (line,) = rendered(snapshot([record], start_ns=10 * NS, end_ns=15 * NS, clock=clock))
    assert (line["first_seen"], line["last_seen"]) == (utc(BOOT + 12 * NS), utc(BOOT + 15 * NS))


def test_traffic_class_is_told_of_every_packet_with_an_ip_header_and_of_no_other() -> None:
    marked, changed, arp = (
        flow(dscp=46, ecn_ce=3),
        flow(dscp=8, dscp_changed=True),
        flow(key(ethertype=ARP, protocol=0)),
    )
    lines = rendered(snapshot([marked, changed, arp]))
    assert [line.get("dscp") for line in lines] == [46, 8, None]
    assert [line.get("ecn_ce_packets") for line in lines] == [3, 0, None]
    assert ["dscp_changed" in line for line in lines] == [False, True, False]
