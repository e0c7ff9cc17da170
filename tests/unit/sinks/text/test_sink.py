"""The text lines, byte for byte as they are documented."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.unit.make import (
    ARP,
    ETH0,
    GRE,
    ICMP,
    ICMPV6,
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
from xtrace.model.flow import (
    EGRESS,
    FRAGMENT,
    INNER,
    LATER_FRAGMENT,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    Interface,
    PacketCount,
)
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.words import Direction, Hook
from xtrace.sinks import Run, flow_lines
from xtrace.sinks.registry import Totals
from xtrace.sinks.stream import OutputBlocked, OutputStream
from xtrace.sinks.text.sink import Text

Output = tuple[OutputStream, Callable[[], bytes]]

DOCUMENTED = b"192.168.1.100:80 -> 192.168.1.1:12345 proto=6 packets=10 bytes=1500 [TCP] eth0\n"
DOCUMENTED_ROCE = (
    b"194:0 -> 193:0 proto=8 packets=1000 bytes=65536000 [RoCE_v2 RDMA_WRITE_LAST] ibs8f0 10.0.0.1 -> 10.0.0.2\n"
)
LATER = FRAGMENT | LATER_FRAGMENT


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interface line has local time."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def written(output: Output, interval: FlowSnapshot, top: int = 0) -> list[str]:
    stream, contents = output
    Text(stream, top).write(interval)
    return contents().decode().splitlines()


def test_flow_line_is_the_documented_one_byte_for_byte(output: Output) -> None:
    stream, contents = output
    Text(stream).write(snapshot([flow(packets=10, size=1500)]))
    assert contents().startswith(DOCUMENTED)


def test_roce_line_is_the_documented_one_byte_for_byte(output: Output) -> None:
    flows = [flow(roce(opcode=8, dst_qpn=193, src_qpn=194), packets=1000, size=65_536_000)]
    stream, contents = output
    Text(stream).write(snapshot(flows, [(Interface("ibs8f0", 0), counts_of(flows))]))
    assert contents().startswith(DOCUMENTED_ROCE)


def test_interface_line_is_the_documented_one_byte_for_byte(output: Output) -> None:
    unattributed = (PacketCount(3, 300), *(PacketCount(0, 0),) * 7, PacketCount(4, 400))
    flows = [flow(packets=10, size=1500), flow(packets=2, size=120)]
    counts = counts_of(flows, unattributed, filtered=PacketCount(5, 500))
    stream, contents = output
    Text(stream).write(snapshot(flows, [(ETH0, counts)], end_ns=54_245 * NS, start_ns=54_240 * NS))
    last = contents().splitlines(keepends=True)[-1]
    assert last == b"eth0 15:04:05 5.0s flows=2 packets=24 bytes=2820 unattributed=7 filtered=5\n"


@pytest.mark.parametrize(
    "where, line",
    [
        (key(protocol=UDP), "192.168.1.100:80 -> 192.168.1.1:12345 proto=17 packets=10 bytes=1500 [UDP] eth0"),
        (key(protocol=SCTP), "192.168.1.100:80 -> 192.168.1.1:12345 proto=132 packets=10 bytes=1500 [SCTP] eth0"),
        (
            key(ports=(8, 0), protocol=ICMP),
            "192.168.1.100 -> 192.168.1.1 proto=1 packets=10 bytes=1500 [ICMP] eth0 type=8 code=0",
        ),
        (
            key("fe80::1", "ff02::2", (133, 0), ICMPV6),
            "[fe80::1] -> [ff02::2] proto=58 packets=10 bytes=1500 [ICMP] eth0 type=133 code=0",
        ),
        (
            key("2001:db8::1", "2001:db8::2", (443, 50000)),
            "[2001:db8::1]:443 -> [2001:db8::2]:50000 proto=6 packets=10 bytes=1500 [TCP] eth0",
        ),
        (
            key(ports=(0, 0), protocol=GRE),
            "192.168.1.100 -> 192.168.1.1 proto=47 packets=10 bytes=1500 [Other] eth0",
        ),
        (
            key("", "", (0, 0), 0, ethertype=ARP),
            "- -> - proto=0 packets=10 bytes=1500 [ARP] eth0 ethertype=0x0806",
        ),
        (
            key("", "", (0, 0), 0, ethertype=LLDP),
            "- -> - proto=0 packets=10 bytes=1500 [Other] eth0 ethertype=0x88cc",
        ),
        (
            key("", "", (0, 0), 0, ethertype=LLC),
            "- -> - proto=0 packets=10 bytes=1500 [Other] eth0 LLC",
        ),
        (
            key("", "", (0, 0), 0, ethertype=LLC, vlan_id=7),
            "- -> - proto=0 packets=10 bytes=1500 [Other] eth0 vlan=7 LLC",
        ),
        (
            key(protocol=UDP, flags=FRAGMENT),
            "192.168.1.100:80 -> 192.168.1.1:12345 proto=17 packets=10 bytes=1500 [UDP] eth0 frag",
        ),
        (
            key(ports=(0, 0), protocol=UDP, flags=FRAGMENT),
            "192.168.1.100:0 -> 192.168.1.1:0 proto=17 packets=10 bytes=1500 [UDP] eth0 frag",
        ),
        (
            key(ports=(0, 0), protocol=UDP, flags=LATER),
            "192.168.1.100 -> 192.168.1.1 proto=17 packets=10 bytes=1500 [UDP] eth0 frag",
        ),
        (
            key("fd00::1", "fd00::2", (0, 0), SCTP, flags=LATER),
            "[fd00::1] -> [fd00::2] proto=132 packets=10 bytes=1500 [SCTP] eth0 frag",
        ),
        (
            key(ports=(8, 0), protocol=ICMP, flags=FRAGMENT),
            "192.168.1.100 -> 192.168.1.1 proto=1 packets=10 bytes=1500 [ICMP] eth0 type=8 code=0 frag",
        ),
        (
            key(ports=(0, 0), protocol=ICMP, flags=LATER),
            "192.168.1.100 -> 192.168.1.1 proto=1 packets=10 bytes=1500 [ICMP] eth0 frag",
        ),
        (
            key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP),
            "10.0.0.1 -> 10.0.0.2 proto=0 packets=10 bytes=1500 [ARP] eth0 ethertype=0x0806",
        ),
        (
            key(vlan_id=4094),
            "192.168.1.100:80 -> 192.168.1.1:12345 proto=6 packets=10 bytes=1500 [TCP] eth0 vlan=4094",
        ),
        (
            key(ports=(0, 0), protocol=UDP, flags=LATER, vlan_id=7),
            "192.168.1.100 -> 192.168.1.1 proto=17 packets=10 bytes=1500 [UDP] eth0 frag vlan=7",
        ),
        (
            key("10.0.0.1", "10.0.0.2", (0, 0), 0, ethertype=ARP, vlan_id=7),
            "10.0.0.1 -> 10.0.0.2 proto=0 packets=10 bytes=1500 [ARP] eth0 vlan=7 ethertype=0x0806",
        ),
        (
            roce(opcode=10, dst_qpn=193),
            "?:0 -> 193:0 proto=10 packets=10 bytes=1500 [RoCE_v2 RDMA_WRITE_ONLY] eth0 10.0.0.1 -> 10.0.0.2",
        ),
        (
            roce(opcode=0x64, dst_qpn=1, src_qpn=0),
            "0:0 -> 1:0 proto=100 packets=10 bytes=1500 [RoCE_v2 UD_SEND_ONLY] eth0 10.0.0.1 -> 10.0.0.2",
        ),
        (
            roce(opcode=0x81, dst_qpn=0xFFFFFF, vlan_id=7),
            "?:0 -> 16777215:0 proto=129 packets=10 bytes=1500 [RoCE_v2 CNP] eth0 10.0.0.1 -> 10.0.0.2 vlan=7",
        ),
        (
            roce(opcode=0x1F, dst_qpn=193),
            "?:0 -> 193:0 proto=31 packets=10 bytes=1500 [RoCE_v2 0x1f] eth0 10.0.0.1 -> 10.0.0.2",
        ),
        (
            roce(opcode=4, dst_qpn=193, src="fe80::1", dst="fe80::2", version=1),
            "?:0 -> 193:0 proto=4 packets=10 bytes=1500 [RoCE_v1_IBoE SEND_ONLY] eth0 fe80::1 -> fe80::2",
        ),
        (
            key("fe80::1", "fe80::2", (0, 0), 0, ethertype=RDMA_OVER_ETHERNET),
            "[fe80::1] -> [fe80::2] proto=0 packets=10 bytes=1500 [RoCE_v1_IBoE] eth0 ethertype=0x8915",
        ),
        (
            key(ports=(0, 0), protocol=UDP),
            "192.168.1.100:0 -> 192.168.1.1:0 proto=17 packets=10 bytes=1500 [UDP] eth0",
        ),
        (
            key(ports=(0, 9), protocol=UDP),
            "192.168.1.100:0 -> 192.168.1.1:9 proto=17 packets=10 bytes=1500 [UDP] eth0",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flow_line(output: Output, where: FlowKey, line: str) -> None:
    assert written(output, snapshot([flow(where)]))[0] == line


@pytest.mark.parametrize("direction, word", [(Direction.INGRESS, "in"), (Direction.EGRESS, "out")])
@pytest.mark.parametrize(
    "where, end",
    [
        (key(), "[TCP] eth0"),
        (key(protocol=UDP, flags=FRAGMENT, vlan_id=7), "[UDP] eth0 frag vlan=7"),
        (key(vlan_id=1 << 12, flags=INNER)._replace(src_qpn=42, ethertype=0x4000), "[TCP] eth0 vxlan vni=42"),
        (key(vlan_id=6 << 12 | 7, flags=INNER)._replace(ethertype=0x6008), "[TCP] eth0 vlan=7 inner_vlan=8 ipip"),
        (key(vlan_id=1 << 12 | 100)._replace(src_qpn=2 << 24), "[TCP] eth0 vlan=100 inner_vlan=258"),
        (roce(), "[RoCE_v2 RDMA_WRITE_LAST] eth0 10.0.0.1 -> 10.0.0.2"),
    ],
    ids=["tcp", "tagged fragment", "vxlan", "tags around ipip", "two tags", "roce"],
)
def test_direction_is_the_last_word_of_flows_and_interface_where_both_are_watched(
    output: Output, where: FlowKey, end: str, direction: Direction, word: str
) -> None:
    flows = [flow(where._replace(flags=where.flags | direction.bit))]
    stream, contents = output
    eth0 = Interface("eth0", 0, Hook.TC, direction=direction)
    Text(stream, with_direction=True).write(snapshot(flows, [(eth0, counts_of(flows))]))
    of_flow, of_interface = contents().decode().splitlines()
    assert of_flow.endswith(f" {end} {word}")
    assert of_interface.endswith(f" filtered=0 {word}")


def test_both_directions_of_an_interface_are_told_apart(output: Output) -> None:
    came, left = [flow(packets=1, size=60)], [flow(key(flags=EGRESS), packets=2, size=200)]
    directions = [
        (Interface("eth0", 0, Hook.TC), counts_of(came)),
        (Interface("eth0", 0, Hook.TC, None, Direction.EGRESS), counts_of(left)),
    ]
    stream, contents = output
    Text(stream, with_direction=True).write(snapshot(came + left, directions))
    told = [(line.split("bytes=")[1].split()[0], line.split()[-1]) for line in contents().decode().splitlines()]
    assert told == [("60", "in"), ("60", "in"), ("200", "out"), ("200", "out")]


def test_direction_is_not_said_where_only_one_is_watched(output: Output) -> None:
    flows = [flow(key(flags=EGRESS))]
    eth0 = Interface("eth0", 0, Hook.TC, direction=Direction.EGRESS)
    lines = written(output, snapshot(flows, [(eth0, counts_of(flows))]))
    assert [line.split()[-1] for line in lines] == ["eth0", "filtered=0"]


def test_flows_are_sorted_by_bytes_not_by_packets(output: Output) -> None:
    sizes = [(1, 500), (900, 9000), (5, 70_000), (2, 60)]
    flows = [flow(key(ports=(n, 443)), packets, size) for n, (packets, size) in enumerate(sizes)]
    lines = written(output, snapshot(flows))
    assert [line.split("bytes=")[1].split()[0] for line in lines[:-1]] == ["70000", "9000", "500", "60"]


def test_flows_beyond_top_are_one_line_between_flows_and_interface(output: Output) -> None:
    flows = [flow(key(ports=(n, 443)), packets=n, size=100 * n) for n in range(1, 6)]
    lines = written(output, snapshot(flows), top=2)
    assert [line.split()[0] for line in lines] == ["192.168.1.100:5", "192.168.1.100:4", "other", "eth0"]
    assert lines[2] == "other flows=3 packets=6 bytes=600 eth0"
    assert " flows=5 packets=15 bytes=1500 " in lines[3]


def test_no_other_line_where_every_flow_is_shown(output: Output) -> None:
    lines = written(output, snapshot([flow(), flow()]), top=2)
    assert [line.split()[0] for line in lines] == ["192.168.1.100:80", "192.168.1.100:80", "eth0"]


def test_silent_interval_is_one_line(output: Output) -> None:
    assert written(output, snapshot([], end_ns=1_004_000_000)) == [
        "eth0 00:00:01 1.0s flows=0 packets=0 bytes=0 unattributed=0 filtered=0"
    ]


def test_interface_that_came_or_went_within_the_interval_has_its_own_length(output: Output) -> None:
    eth1 = Interface("eth1", slot=1)
    part = replace(counts_of([]), interval_ns=1_260_000_000)
    lines = written(output, snapshot([], [(ETH0, counts_of([])), (eth1, part)]))
    assert [line.split()[2] for line in lines] == ["5.0s", "1.3s"]


def test_each_interface_has_its_flows_before_its_own_line(output: Output) -> None:
    eth1 = Interface("eth1", slot=1)
    mine, others = [flow()], [flow(key("10.0.0.1", "10.0.0.2", slot=1))]
    interval = snapshot(mine + others, [(ETH0, counts_of(mine)), (eth1, counts_of(others))])
    first_words = [line.split()[0] for line in written(output, interval)]
    assert first_words == ["192.168.1.100:80", "eth0", "10.0.0.1:80", "eth1"]


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_every_one_of_many_flows_is_written(output: Output, count: int) -> None:
    flows: list[FlowRecord] = [flow(key(ports=(n, 443)), size=1_000_000 - n) for n in range(count)]
    lines = written(output, snapshot(flows))
    assert [line.split()[0] for line in lines] == [f"192.168.1.100:{n}" for n in range(count)] + ["eth0"]


def test_many_flows_are_written_in_parts(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, _ = output
    parts: list[bytes] = []
    monkeypatch.setattr(stream, "write", parts.append)
    Text(stream).write(snapshot([flow() for _ in range(2500)]))
    assert all(part.endswith(b"\n") for part in parts)
    assert max(map(len, parts)) <= flow_lines.ROOM + len(" eth0")
    assert [part.count(b"\n") for part in parts][-1] == 1, "the interface"
    assert sum(part.count(b"\n") for part in parts) == 2501


def test_lines_that_a_blocked_reader_did_not_get_are_counted_to_the_last(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part is cut 600 lines before its end; others were not rendered yet."""
    stream, _ = output
    parts: list[int] = []

    def write(data: bytes) -> None:
        parts.append(data.count(b"\n"))
        if len(parts) == 2:
            raise OutputBlocked(600)

    monkeypatch.setattr(stream, "write", write)
    with pytest.raises(OutputBlocked) as caught:
        Text(stream).write(snapshot([flow() for _ in range(2500)]))
    assert sum(parts) < 2500
    assert caught.value.lost == 600 + 2501 - sum(parts)


@pytest.mark.parametrize("opcode", [0, 4])
def test_roce_v1_is_shown_as_roce_and_not_by_its_ethertype(output: Output, opcode: int) -> None:
    record = flow(roce(opcode=opcode, dst_qpn=193, version=1))
    assert "ethertype" not in written(output, snapshot([record]))[0]


def test_start_and_end_are_no_lines(output: Output) -> None:
    stream, contents = output
    sink = Text(stream)
    sink.start(Run("1", 5.0, ("xdp",), {"xdp": FlowSetup(interfaces=(ETH0,), max_flows=10)}))
    sink.end(Totals())
    assert contents() == b""


def test_interface_name_that_is_no_utf8_is_written_as_its_bytes(output: Output) -> None:
    stream, contents = output
    name = b"up\xff".decode("utf-8", "surrogateescape")
    Text(stream).write(snapshot([], [(Interface(name, 0), counts_of([]))]))
    assert contents().startswith(b"up\xff 00:00:05 ")


@pytest.mark.parametrize(
    "name, shown",
    [
        (b"e\x1b]0;x\x07", b"e?]0;x?"),
        (b"c\xc2\x9b1m", b"c?1m"),
        (b"c\x9b1m", b"c?1m"),
        ("b\u202ex".encode(), b"b?x"),
        (b"l\nforged", b"l?forged"),
    ],
    ids=["C0", "C1", "C1 in 8 bits", "bidi", "line end"],
)
def test_names_do_not_act_on_a_terminal(output: Output, name: bytes, shown: bytes) -> None:
    stream, contents = output
    interface = Interface(name.decode("utf-8", "surrogateescape"), 0)
    Text(stream).write(snapshot([flow()], [(interface, counts_of([flow()]))]))
    of_flow, of_interface = contents().splitlines()
    assert of_flow.endswith(b"] " + shown)
    assert of_interface.startswith(shown + b" 00:00:05 ")


def test_ordinary_names_in_any_script_are_written_as_their_bytes(output: Output) -> None:
    stream, contents = output
    Text(stream).write(snapshot([], [(Interface("网卡é-0.1@x", 0), counts_of([]))]))
    assert contents().startswith("网卡é-0.1@x 00:00:05 ".encode())


def test_total_of_the_line_is_that_of_all_protocols(output: Output) -> None:
    flows = [flow(key(protocol=TCP), 1, 100), flow(key(protocol=UDP), 2, 200), flow(key("", "", (0, 0), 0), 3, 300)]
    assert " packets=6 bytes=600 " in written(output, snapshot(flows))[-1]
