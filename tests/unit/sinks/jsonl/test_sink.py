"""JSON Lines: every record against the documented schema, and what its fields say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.net import assert_sums_close, of_type, records
from tests.support.schema import validate
from tests.unit.conftest import Pipe
from tests.unit.make import (
    ARP,
    ETH0,
    GRE,
    ICMP,
    ICMPV6,
    IPV4,
    LLC,
    LLDP,
    NS,
    RDMA_OVER_ETHERNET,
    SCTP,
    TCP,
    UDP,
    counts_of,
    flow,
    key,
    roce,
    snapshot,
)
from xtrace.model.confinement import Confinement
from xtrace.model.flow import (
    EGRESS,
    FRAGMENT,
    LATER_FRAGMENT,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    Interface,
    PacketCount,
    Unattached,
)
from xtrace.model.flow_totals import FlowSetup, FlowTotals
from xtrace.model.nccl import CallTotals, NcclSnapshot
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Absence, Direction, Hook, XdpMode
from xtrace.sinks import Run
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.sink import JsonLines
from xtrace.sinks.registry import Totals
from xtrace.sinks.stream import OutputBlocked, OutputStream
from xtrace.stop import Stop

Output = tuple[OutputStream, Callable[[], bytes]]
Record = dict[str, Any]

FLOWS = FlowSetup(
    interfaces=(
        ETH0,
        Interface("lo", 1, xdp_mode=XdpMode.GENERIC),
        Interface("eth0", 0, Hook.TC, direction=Direction.EGRESS),
    ),
    features=("btf", "frags"),
    filters=("types RoCE_v2", "port 53 443", "exclude-dns"),
    map_memory=20_296_336,
    max_flows=65536,
)
RUN = Run("0.1.0", 5.0, ("xdp",), {"xdp": FLOWS})
LATER = FRAGMENT | LATER_FRAGMENT
TYPES_UNATTRIBUTED = (PacketCount(3, 300), *(PacketCount(0, 0),) * (len(TRAFFIC_TYPES) - 2), PacketCount(4, 400))


def written(output: Output, interval: FlowSnapshot, top: int = 0) -> list[Record]:
    stream, contents = output
    JsonLines(stream, Identity("n1"), top).write(interval)
    lines = records(contents())
    validate(lines)
    assert_sums_close(lines)
    return lines


def only_flow(output: Output, record: FlowRecord, interval: FlowSnapshot | None = None) -> Record:
    (found,) = of_type(written(output, interval or snapshot([record])), "flow")
    return found


def test_flow_record_is_the_documented_one_byte_for_byte(output: Output) -> None:
    stream, contents = output
    JsonLines(stream, Identity("n1")).write(snapshot([flow(packets=10, size=1500, tcp_flags=0x12)]))
    assert contents().splitlines(keepends=True)[0] == (
        b'{"type":"flow","ts":"2026-01-01T00:00:05.000Z","interval_s":5.0,"host":"n1","interface":"eth0",'
        b'"direction":"ingress","src_ip":"192.168.1.100","src_port":80,"dst_ip":"192.168.1.1","dst_port":12345,'
        b'"protocol":6,"traffic_type":"TCP","packets":10,"bytes":1500,"units":"wire",'
        b'"first_seen":"2026-01-01T00:00:01.000Z","last_seen":"2026-01-01T00:00:02.000Z","tcp_flags":"SYN,ACK","dscp":0,"ecn_ce_packets":0}\n'
    )


def test_interface_record_is_the_documented_one_byte_for_byte(output: Output) -> None:
    stream, contents = output
    counts = counts_of([], TYPES_UNATTRIBUTED, filtered=PacketCount(5, 500))
    JsonLines(stream, Identity("n1")).write(snapshot([], [(ETH0, counts)], start_ns=1, end_ns=5 * NS))
    assert contents() == (
        b'{"type":"interface","ts":"2026-01-01T00:00:05.000Z","interval_s":5.0,"host":"n1","interface":"eth0",'
        b'"direction":"ingress","packets":12,"bytes":1200,"unattributed_packets":7,"unattributed_bytes":700,'
        b'"filtered_packets":5,"filtered_bytes":500,"flows":0,'
        b'"unattributed":[{"traffic_type":"TCP","packets":3,"bytes":300},'
        b'{"traffic_type":"Other","packets":4,"bytes":400}],'
        b'"units":"wire","nic_packets":null,"nic_bytes":null,"hook":"xdp","xdp_mode":"native","coverage":null,"up":true}\n'
    )


def test_hook_records_follow_the_interfaces(output: Output) -> None:
    absent = Unattached("wlan0", Absence.DETACHED, "the program was detached by someone else")
    interval = replace(snapshot(), unattached=(absent,), reattached=("eth1",))
    common = {"type": "hook", "ts": "2026-01-01T00:00:05.000Z", "host": "n1"}
    assert written(output, interval)[-2:] == [
        {**common, "interface": "eth1", "attached": True, "reason": None, "detail": None},
        {**common, "interface": "wlan0", "attached": False, "reason": "detached", "detail": absent.detail},
    ]


def test_start_record_tells_what_runs(output: Output) -> None:
    stream, contents = output
    JsonLines(stream, Identity("n1")).start(RUN)
    (record,) = lines = records(contents())
    validate(lines)
    assert record.pop("ts")
    assert record == {
        "type": "start",
        "schema": 1,
        "host": "n1",
        "version": "0.1.0",
        "interval_s": 5.0,
        "modes": ["xdp"],
        "landlock": True,
        "hooks": [
            {"interface": "eth0", "direction": "ingress", "hook": "xdp", "xdp_mode": "native"},
            {"interface": "lo", "direction": "ingress", "hook": "xdp", "xdp_mode": "generic"},
            {"interface": "eth0", "direction": "egress", "hook": "tc", "xdp_mode": None},
        ],
        "features": ["btf", "frags"],
        "filters": ["types RoCE_v2", "port 53 443", "exclude-dns"],
        "max_flows": 65536,
        "map_memory_bytes": 20_296_336,
    }


def test_start_record_tells_why_files_are_not_out_of_reach(output: Output) -> None:
    stream, contents = output
    JsonLines(stream, Identity("n1")).start(RUN._replace(confinement=Confinement("the kernel has no Landlock")))
    (record,) = lines = records(contents())
    validate(lines)
    assert (record["landlock"], record["landlock_reason"]) == (False, "the kernel has no Landlock")


def test_end_record_adds_up_all_intervals(output: Output) -> None:
    totals = Totals(intervals=2)
    for size in (100, 250):
        flows = [flow(packets=2, size=size)]
        totals.add(snapshot(flows, [(ETH0, counts_of(flows, TYPES_UNATTRIBUTED, PacketCount(1, 60)))]))
    stream, contents = output
    JsonLines(stream, Identity("n1")).end(totals)
    (record,) = lines = records(contents())
    validate(lines)
    assert (record["type"], record["host"], record["intervals"]) == ("end", "n1", 2)
    assert record["interfaces"] == [
        {
            "interface": "eth0",
            "direction": "ingress",
            "packets": 2 * (2 + 7 + 1),
            "bytes": 350 + 2 * (700 + 60),
            "unattributed_packets": 14,
            "unattributed_bytes": 1400,
            "filtered_packets": 2,
            "filtered_bytes": 120,
        }
    ]


@pytest.mark.parametrize(
    "where, expected",
    [
        (key(), {"traffic_type": "TCP", "protocol": 6, "src_port": 80, "dst_port": 12345, "tcp_flags": ""}),
        (key(protocol=UDP), {"traffic_type": "UDP", "protocol": 17, "src_port": 80, "dst_port": 12345}),
        (key(protocol=SCTP), {"traffic_type": "SCTP", "protocol": 132, "src_port": 80, "dst_port": 12345}),
        (
            key(ports=(8, 0), protocol=ICMP),
            {"traffic_type": "ICMP", "src_port": 0, "dst_port": 0, "icmp_type": 8, "icmp_code": 0},
        ),
        (
            key("fe80::1", "ff02::2", (133, 7), ICMPV6),
            {"src_ip": "fe80::1", "dst_ip": "ff02::2", "protocol": 58, "icmp_type": 133, "icmp_code": 7},
        ),
        (key(ports=(0, 0), protocol=GRE), {"traffic_type": "Other", "protocol": 47, "src_port": 0, "dst_port": 0}),
        (
            key("", "", (0, 0), 0, ethertype=ARP),
            {"traffic_type": "ARP", "src_ip": None, "dst_ip": None, "protocol": None, "ethertype": 0x0806},
        ),
        (
            key("", "", (0, 0), 0, ethertype=LLDP),
            {"traffic_type": "Other", "src_ip": None, "dst_ip": None, "protocol": None, "ethertype": 0x88CC},
        ),
        (key("", "", (0, 0), 0, ethertype=LLC), {"traffic_type": "Other", "src_ip": None, "ethertype": 4}),
        (key("", "", (0, 0), 0, ethertype=IPV4), {"src_ip": None, "protocol": None, "ethertype": 0x0800}),
        (
            key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP),
            {"src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "protocol": None, "ethertype": 0x0806},
        ),
        (
            key("fe80::1", "fe80::2", (0, 0), 0, ethertype=RDMA_OVER_ETHERNET),
            {"traffic_type": "RoCE_v1_IBoE", "src_ip": "fe80::1", "protocol": None, "ethertype": 0x8915},
        ),
        (key(ports=(0, 0), protocol=UDP, flags=LATER), {"fragment": True, "src_port": 0, "dst_port": 0}),
        (key(protocol=TCP, flags=FRAGMENT), {"fragment": True, "src_port": 80, "tcp_flags": ""}),
        (
            key(ports=(8, 3), protocol=ICMP, flags=FRAGMENT),
            {"fragment": True, "src_port": 0, "dst_port": 0, "icmp_type": 8, "icmp_code": 3},
        ),
        (key(ports=(0, 0), protocol=ICMP, flags=LATER), {"fragment": True, "src_port": 0, "dst_port": 0}),
        (key(vlan_id=4094), {"vlan": 4094, "protocol": 6, "src_port": 80}),
        (key("", "", (0, 0), 0, ethertype=LLDP, vlan_id=7), {"vlan": 7, "ethertype": 0x88CC}),
        (
            roce(opcode=8, dst_qpn=0xABCDEF),
            {
                "traffic_type": "RoCE_v2",
                "src_ip": "10.0.0.1",
                "dst_ip": "10.0.0.2",
                "protocol": 17,
                "src_port": 0,
                "dst_port": 0,
                "src_qpn": None,
                "dst_qpn": 0xABCDEF,
                "opcode": 8,
                "opcode_name": "RDMA_WRITE_LAST",
            },
        ),
        (roce(opcode=0x64, dst_qpn=1, src_qpn=0), {"src_qpn": 0, "dst_qpn": 1, "opcode_name": "UD_SEND_ONLY"}),
        (roce(opcode=0x64, src_qpn=0xFFFFFF, vlan_id=7), {"src_qpn": 0xFFFFFF, "vlan": 7}),
        (roce(opcode=0x81), {"opcode": 0x81, "opcode_name": "CNP"}),
        (roce(opcode=0x9F), {"opcode": 0x9F, "opcode_name": "0x9f"}),
        (
            roce(opcode=4, dst_qpn=193, src="fe80::1", dst="fe80::2", version=1),
            {
                "traffic_type": "RoCE_v1_IBoE",
                "src_ip": "fe80::1",
                "protocol": None,
                "ethertype": 0x8915,
                "dst_qpn": 193,
                "opcode_name": "SEND_ONLY",
            },
        ),
    ],
)
def test_flow_record_says(output: Output, where: FlowKey, expected: Record) -> None:
    record = only_flow(output, flow(where))
    assert {name: record[name] for name in expected} == expected


OF_ROCE = ("src_qpn", "dst_qpn", "opcode", "opcode_name")


@pytest.mark.parametrize(
    "where, absent",
    [
        (key(), {"icmp_type", "icmp_code", "fragment", "ethertype", "vlan", *OF_ROCE}),
        (key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP), {"tcp_flags", "fragment", "vlan", *OF_ROCE}),
        (key(ports=(0, 0), protocol=ICMP, flags=LATER), {"icmp_type", "icmp_code", "tcp_flags", *OF_ROCE}),
        (key("fe80::1", "fe80::2", (0, 0), 0, ethertype=RDMA_OVER_ETHERNET), {"fragment", *OF_ROCE}),
        (key(protocol=UDP, ports=(50000, 4791)), {*OF_ROCE}),
        (roce(), {"tcp_flags", "icmp_type", "icmp_code", "fragment", "ethertype", "vlan"}),
        (roce(version=1), {"tcp_flags", "icmp_type", "icmp_code", "fragment", "vlan"}),
        (key(protocol=UDP), {"tcp_flags", "icmp_type", "icmp_code", "fragment", "ethertype"}),
        (key(ports=(8, 0), protocol=ICMP), {"tcp_flags", "fragment", "ethertype"}),
        (key("", "", (0, 0), 0, ethertype=ARP), {"tcp_flags", "icmp_type", "icmp_code", "fragment"}),
    ],
)
def test_fields_of_other_protocols_are_absent(output: Output, where: FlowKey, absent: set[str]) -> None:
    assert not absent & set(only_flow(output, flow(where)))


@pytest.mark.parametrize(
    "flags, names",
    [(0, ""), (1, "FIN"), (0x12, "SYN,ACK"), (0x80, "CWR"), (0xFF, "FIN,SYN,RST,PSH,ACK,URG,ECE,CWR")],
)
def test_tcp_flags_are_named_from_the_lowest_bit(output: Output, flags: int, names: str) -> None:
    assert only_flow(output, flow(tcp_flags=flags))["tcp_flags"] == names


@pytest.mark.parametrize(
    "end_ns, shown",
    [
        (0, "2026-01-01T00:00:00.000Z"),
        (1_000_000, "2026-01-01T00:00:00.001Z"),
        (999_999_999, "2026-01-01T00:00:00.999Z"),
        (86_400 * NS, "2026-01-02T00:00:00.000Z"),
        (58 * 86_400 * NS + 1_500_000, "2026-02-28T00:00:00.001Z"),
        (59 * 86_400 * NS - 1, "2026-02-28T23:59:59.999Z"),
    ],
)
def test_ts_is_the_intervals_end_in_rfc_3339_cut_to_milliseconds(output: Output, end_ns: int, shown: str) -> None:
    (line,) = written(output, snapshot([], start_ns=min(0, end_ns - NS), end_ns=end_ns))
    assert line["ts"] == shown


def test_times_of_a_flow_never_lie_outside_its_interval(output: Output) -> None:
    early_and_late = flow(first_ns=9 * NS, last_ns=16 * NS)
    record = only_flow(output, early_and_late, snapshot([early_and_late], start_ns=10 * NS, end_ns=15 * NS))
    assert record["first_seen"] == "2026-01-01T00:00:10.000Z"
    assert record["last_seen"] == record["ts"] == "2026-01-01T00:00:15.000Z"


def test_times_of_a_flow_are_in_milliseconds(output: Output) -> None:
    record = only_flow(output, flow(first_ns=1_234_567_890, last_ns=1_235_000_000))
    assert (record["first_seen"], record["last_seen"]) == ("2026-01-01T00:00:01.234Z", "2026-01-01T00:00:01.235Z")


@pytest.mark.parametrize("length_ns, shown", [(5 * NS, 5.0), (1_008_400_000, 1.008), (99_999_999, 0.1)])
def test_interval_is_its_measured_length_in_seconds(output: Output, length_ns: int, shown: float) -> None:
    (line,) = written(output, snapshot([], end_ns=length_ns))
    assert line["interval_s"] == shown


def test_interface_that_came_or_went_within_the_interval_has_its_own_length(output: Output) -> None:
    flows = [flow(), flow(key(slot=1))]
    part = replace(counts_of(flows[1:]), interval_ns=1_260_000_000)
    eth1 = Interface("eth1", 1, xdp_mode=XdpMode.NATIVE)
    lines = written(output, snapshot(flows, [(ETH0, counts_of(flows[:1])), (eth1, part)]))
    assert [(line["interface"], line["interval_s"]) for line in lines] == [
        ("eth0", 5.0),
        ("eth0", 5.0),
        ("eth1", 1.26),
        ("eth1", 1.26),
    ]


def test_driver_that_hands_merged_packets_to_xdp_counts_frames(output: Output) -> None:
    flows = [flow()]
    tun = Interface("tun0", 0, Hook.XDP, XdpMode.NATIVE, merges=True)
    assert [line["units"] for line in written(output, snapshot(flows, [(tun, counts_of(flows))]))] == ["frame"] * 2


def test_packets_from_the_unspecified_address_to_itself_have_addresses_and_a_protocol(output: Output) -> None:
    record = only_flow(output, flow(key("::", "::", (1, 2), TCP)))
    assert (record["src_ip"], record["dst_ip"], record["protocol"], record["src_port"]) == ("::", "::", 6, 1)


def test_interface_that_went_and_came_back_is_one_in_the_end_record(output: Output) -> None:
    totals = Totals()
    for slot, hook, mode in ((0, Hook.XDP, XdpMode.NATIVE), (1, Hook.TC, None)):
        flows = [flow(key(slot=slot), packets=2, size=100)]
        totals.add(snapshot(flows, [(Interface("eth0", slot, hook, mode), counts_of(flows))]))
    stream, contents = output
    JsonLines(stream, Identity("n1")).end(totals)
    ((end,),) = [records(contents())]
    validate([end])
    assert [(one["interface"], one["direction"], one["packets"]) for one in end["interfaces"]] == [
        ("eth0", "ingress", 4)
    ]


def test_end_tells_the_nccl_calls_of_the_run_each_once(output: Output) -> None:
    """Of 100 hits 7 were nested and 2 duplicate, in each of two intervals; 5 calls had no room."""
    totals = Totals()
    for _ in range(2):
        counted = CallTotals(entries=100, nested=7, duplicate=2, unattributed=5)
        totals.add(NcclSnapshot(end_ns=5 * NS, interval_ns=5 * NS, totals=counted))
    stream, contents = output
    JsonLines(stream, Identity("n1")).end(totals)
    (record,) = records(contents())
    validate([record])
    assert record["nccl"] == {"calls": 182, "unattributed_calls": 10}


def test_interfaces_that_come_and_go_for_ever_share_totals_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrace.model.flow_totals.MOST_TOTALS", 3)
    totals = FlowTotals()
    for name in ("eth0", "a", "b", "c", "eth0", "d"):
        flows = [flow(packets=1, size=60)]
        totals.add(snapshot(flows, [(Interface(name, 0), counts_of(flows))]))
    packets = {name: count.packets for (name, _), count in totals.total.items()}
    assert packets == {"eth0": 2, "a": 1, "b": 1, "other": 2}


@pytest.mark.parametrize(
    "hook, mode, units",
    [(Hook.XDP, XdpMode.NATIVE, "wire"), (Hook.XDP, XdpMode.GENERIC, "frame"), (Hook.TC, None, "wire")],
)
def test_units_of_flows_and_interface_tell_whether_frames_were_merged(
    output: Output, hook: Hook, mode: XdpMode | None, units: str
) -> None:
    flows = [flow()]
    lines = written(output, snapshot(flows, [(Interface("eth0", 0, hook, mode), counts_of(flows))]))
    assert [line["units"] for line in lines] == [units, units]
    assert (lines[-1]["hook"], lines[-1]["xdp_mode"]) == (hook, mode)


def test_flows_beyond_top_are_one_other_record(output: Output) -> None:
    flows = [flow(key(ports=(n, 443)), packets=n, size=100 * n) for n in range(1, 6)]
    lines = written(output, snapshot(flows), top=2)
    assert [line["type"] for line in lines] == ["flow", "flow", "other", "interface"]
    assert [line["bytes"] for line in lines] == [500, 400, 600, 1500]
    assert (lines[2]["flows"], lines[2]["packets"]) == (3, 6)
    assert lines[3]["flows"] == 5


def test_each_interface_has_its_flows_before_its_own_record(output: Output) -> None:
    eth1 = Interface("eth1", slot=1, hook=Hook.TC, direction=Direction.EGRESS)
    mine, others = [flow()], [flow(key(slot=1, flags=EGRESS)), flow(key(slot=1, flags=EGRESS))]
    interval = snapshot(mine + others, [(ETH0, counts_of(mine)), (eth1, counts_of(others))])
    told = [(line["type"], line["interface"], line["direction"]) for line in written(output, interval)]
    assert told == [
        ("flow", "eth0", "ingress"),
        ("interface", "eth0", "ingress"),
        ("flow", "eth1", "egress"),
        ("flow", "eth1", "egress"),
        ("interface", "eth1", "egress"),
    ]


def test_both_directions_of_an_interface_have_their_own_flows_and_records(output: Output) -> None:
    came, left = [flow(packets=1, size=60)], [flow(key(flags=EGRESS), packets=2, size=200)]
    eth0_out = Interface("eth0", slot=0, hook=Hook.TC, direction=Direction.EGRESS)
    interval = snapshot(came + left, [(ETH0, counts_of(came)), (eth0_out, counts_of(left))])
    told = [(line["type"], line["direction"], line["bytes"]) for line in written(output, interval)]
    assert told == [
        ("flow", "ingress", 60),
        ("interface", "ingress", 60),
        ("flow", "egress", 200),
        ("interface", "egress", 200),
    ]


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_every_one_of_many_flows_is_written(output: Output, count: int) -> None:
    flows = [flow(key(ports=(n, 443)), packets=1, size=60 + n) for n in range(count)]
    stream, contents = output
    JsonLines(stream, Identity("n1")).write(snapshot(flows))
    lines = records(contents())
    assert [line["src_port"] for line in of_type(lines, "flow")] == list(range(count))
    assert lines[-1]["type"] == "interface"
    assert lines[-1]["flows"] == count
    assert_sums_close(lines)


def test_many_flows_are_written_in_parts(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, _ = output
    parts: list[int] = []
    monkeypatch.setattr(stream, "write", lambda data: parts.append(data.count(b"\n")))
    JsonLines(stream, Identity("n1")).write(snapshot([flow() for _ in range(2500)]))
    assert sum(parts) == 2501
    assert max(parts) < 300


def test_counters_of_64_bits_are_written_as_whole_numbers(output: Output) -> None:
    record = only_flow(output, flow(packets=2**63, size=2**64 - 1))
    assert (record["packets"], record["bytes"]) == (2**63, 2**64 - 1)


def test_host_is_escaped_as_json(output: Output) -> None:
    stream, contents = output
    JsonLines(stream, Identity('rack "7"\n')).write(snapshot())
    (line,) = contents().splitlines()
    assert json.loads(line)["host"] == 'rack "7"\n'


def test_interface_name_that_is_no_utf8_is_written_with_a_replacement(output: Output) -> None:
    name = b"up\xff".decode("utf-8", "surrogateescape")
    (line,) = written(output, snapshot([], [(Interface(name, 0, xdp_mode=XdpMode.NATIVE), counts_of([]))]))
    assert line["interface"] == "up\ufffd"


def test_all_records_of_a_snapshot_that_could_not_be_written_are_told(
    pipe: Pipe, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrace.stop.GRACE_S", 0.0)
    pipe.fill()
    stop.request()
    flows = [flow(key(ports=(n, 443))) for n in range(2500)]
    with pytest.raises(OutputBlocked, match="records dropped: 2501,"):
        JsonLines(OutputStream(pipe.writer, stop), Identity("n1")).write(snapshot(flows))
