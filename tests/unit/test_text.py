"""The text lines, byte for byte as they are documented."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.unit.make import (
    ARP,
    ETH0,
    GRE,
    ICMP,
    ICMPV6,
    LLDP,
    NS,
    SCTP,
    TCP,
    UDP,
    counts_of,
    flow,
    key,
    snapshot,
)
from xtrace.flow import FRAGMENT, FlowKey, FlowRecord, Interface, PacketCount, Snapshot
from xtrace.sinks import Run, Totals
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text import Text

Output = tuple[OutputStream, Callable[[], bytes]]

DOCUMENTED = b"192.168.1.100:80 -> 192.168.1.1:12345 proto=6 packets=10 bytes=1500 [TCP] eth0\n"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interface line has local time."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def written(output: Output, interval: Snapshot, top: int = 0) -> list[str]:
    stream, contents = output
    Text(stream, top).write(interval)
    return contents().decode().splitlines()


def test_flow_line_is_the_documented_one_byte_for_byte(output: Output) -> None:
    stream, contents = output
    Text(stream).write(snapshot([flow(packets=10, size=1500)]))
    assert contents().startswith(DOCUMENTED)


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
            key(protocol=UDP, flags=FRAGMENT),
            "192.168.1.100:80 -> 192.168.1.1:12345 proto=17 packets=10 bytes=1500 [UDP] eth0 frag",
        ),
        (
            key(ports=(0, 0), protocol=UDP, flags=FRAGMENT),
            "192.168.1.100 -> 192.168.1.1 proto=17 packets=10 bytes=1500 [UDP] eth0 frag",
        ),
        (
            key(ports=(8, 0), protocol=ICMP, flags=FRAGMENT),
            "192.168.1.100 -> 192.168.1.1 proto=1 packets=10 bytes=1500 [ICMP] eth0 type=8 code=0 frag",
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
    parts: list[int] = []
    monkeypatch.setattr(stream, "write", lambda data: parts.append(data.count(b"\n")))
    Text(stream).write(snapshot([flow() for _ in range(2500)]))
    assert parts == [1000, 1000, 501]


def test_start_and_end_are_no_lines(output: Output) -> None:
    stream, contents = output
    sink = Text(stream)
    sink.start(Run("1", 5.0, (ETH0,), (), 0, 10))
    sink.end(Totals())
    assert contents() == b""


def test_interface_name_that_is_no_utf8_is_written_as_its_bytes(output: Output) -> None:
    stream, contents = output
    name = b"up\xff".decode("utf-8", "surrogateescape")
    Text(stream).write(snapshot([], [(Interface(name, 0), counts_of([]))]))
    assert contents().startswith(b"up\xff 00:00:05 ")


def test_total_of_the_line_is_that_of_all_protocols(output: Output) -> None:
    flows = [flow(key(protocol=TCP), 1, 100), flow(key(protocol=UDP), 2, 200), flow(key("", "", (0, 0), 0), 3, 300)]
    assert " packets=6 bytes=600 " in written(output, snapshot(flows))[-1]
