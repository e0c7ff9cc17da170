"""At tc a packet may be several merged ones, and its VLAN tag may stand beside it: it counts as what is on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.kernel.case import flow4, flow6, over_ipv4, over_ipv6
from tests.kernel.counter import TC, Counter, skb_context
from tests.kernel.reference import parse
from tests.kernel.stripped import stripping_before
from tests.support.frames import (
    ACK,
    ARP,
    DESTINATION,
    GRE,
    IPV4,
    IPV6,
    SCTP,
    SERVICE_VLAN,
    TCP,
    UDP,
    VLAN,
    arp,
    ethernet,
    extension,
    gre,
    ipv4,
    ipv6,
    roce,
    sctp,
    tcp,
    udp,
    vlan,
)
from xtrace.kernel.bpf import Program
from xtrace.model.flow import FlowKey, PacketCount
from xtrace.model.words import Direction

pytestmark = pytest.mark.parametrize("any_hook", [(TC, Direction.EGRESS)], ids=["egress"], indirect=True)

TIMESTAMPS = b"\x01\x01\x08\x0a" + bytes(8)
FLOW, FLOW6, UDP_FLOW = flow4(TCP, 5, 6), flow6(TCP, 5, 6), flow4(UDP, 5, 6)
ROCE_PORT_FLOW = flow4(UDP, 49152, 4791)


class Merged(NamedTuple):
    name: str
    frame: bytes
    gso_size: int
    gso_segs: int
    segments: int
    headers: int
    key: FlowKey


def merged_tcp(payload: int, options: bytes = b"") -> bytes:
    return over_ipv4(TCP, tcp(5, 6, ACK, bytes(payload), options=options))


def with_options(payload: int) -> bytes:
    return ethernet(IPV4, ipv4(TCP, tcp(5, 6, ACK, bytes(payload)), options=b"\x01" * 8))


def behind_extension(payload: int) -> bytes:
    return over_ipv6(DESTINATION, extension(TCP, tcp(5, 6, ACK, bytes(payload)), length=1))


def tagged(payload: int) -> bytes:
    return ethernet(VLAN, vlan(42, IPV4, ipv4(TCP, tcp(5, 6, ACK, bytes(payload)))))


MERGED = [
    Merged("not merged", merged_tcp(1000), 0, 0, 1, 54, FLOW),
    Merged("one segment", merged_tcp(1000), 1448, 1, 1, 54, FLOW),
    Merged("one segment, number unknown", merged_tcp(1000), 1448, 0, 1, 54, FLOW),
    Merged("two full segments", merged_tcp(2000), 1000, 2, 2, 54, FLOW),
    Merged("two full segments, number unknown", merged_tcp(2000), 1000, 0, 2, 54, FLOW),
    Merged("a byte more than two segments, number unknown", merged_tcp(2001), 1000, 0, 3, 54, FLOW),
    Merged("a byte less than three segments, number unknown", merged_tcp(2999), 1000, 0, 3, 54, FLOW),
    Merged("the kernel's number counts", merged_tcp(2000), 1000, 7, 7, 54, FLOW),
    Merged("number without a segment size", merged_tcp(2000), 0, 7, 1, 54, FLOW),
    Merged("segments of one byte", merged_tcp(3000), 1, 0, 3000, 54, FLOW),
    Merged("headers without payload", merged_tcp(0), 1448, 0, 1, 54, FLOW),
    Merged("TCP options", merged_tcp(2896, TIMESTAMPS), 1448, 0, 2, 66, FLOW),
    Merged("all TCP options", merged_tcp(2001, b"\x01" * 40), 1000, 0, 3, 94, FLOW),
    Merged("IPv4 options", with_options(2001), 1000, 0, 3, 62, FLOW),
    Merged("IPv6", over_ipv6(TCP, tcp(5, 6, ACK, bytes(2857))), 1428, 0, 3, 74, FLOW6),
    Merged("IPv6 with an extension header", behind_extension(2001), 1000, 0, 3, 90, FLOW6),
    Merged("UDP", over_ipv4(UDP, udp(5, 6, bytes(2945))), 1472, 0, 3, 42, UDP_FLOW),
    Merged("UDP to RoCE's port", over_ipv4(UDP, roce(bytes(2945))), 1472, 0, 3, 42, ROCE_PORT_FLOW),
    Merged("SCTP", over_ipv4(SCTP, sctp(5, 6) + bytes(2001 - 4)), 1000, 0, 3, 46, flow4(SCTP, 5, 6)),
    # what is inside is not looked at, so how long its headers are is not known
    Merged("GRE", over_ipv4(GRE, gre(IPV4, bytes(2962))), 1000, 0, 3, 0, flow4(GRE)),
    Merged("a tag in the frame", tagged(2001), 1000, 0, 3, 58, FLOW._replace(vlan_id=42)),
]


@pytest.mark.parametrize("merged", MERGED, ids=[merged.name for merged in MERGED])
def test_merged_packet_counts_as_its_segments_each_with_the_headers(hook: Counter, merged: Merged) -> None:
    hook.count(merged.frame, context=skb_context(gso_size=merged.gso_size, gso_segs=merged.gso_segs))
    interval = hook.take()
    on_the_wire = len(merged.frame) + (merged.segments - 1) * merged.headers
    flags = ACK if merged.key.protocol == TCP else 0
    assert interval.sums == {hook.here(merged.key): (merged.segments, on_the_wire, flags)}
    assert interval.total == PacketCount(merged.segments, on_the_wire)


def test_merged_and_single_packets_of_a_flow_add_up(hook: Counter) -> None:
    hook.count(merged_tcp(2500), repeat=3, context=skb_context(gso_size=1000, gso_segs=3))
    hook.count(merged_tcp(10), repeat=2)
    assert hook.take().sums == {hook.here(FLOW): (3 * 3 + 2, 3 * (2500 + 3 * 54) + 2 * (10 + 54), ACK)}


# tags that are not in the frame


@pytest.fixture
def stripping(hook: Counter) -> Iterator[Program]:
    """A program that moves a tag, given with the frame, to where a NIC puts it, and then runs the one of the tool."""
    with stripping_before(hook.program) as program:
        yield program


def count_stripped(program: Program, frame: bytes, tag: int, *, ethertype: int = VLAN, gso_size: int = 0) -> None:
    """Let the tool's program see a frame whose tag was taken off; it must pass unchanged."""
    result = program.test_run(frame, context=skb_context(mark=ethertype, priority=tag, gso_size=gso_size))
    assert (result.verdict, result.frame) == (0xFFFFFFFF, frame)


STRIPPED = {
    "IPv4": merged_tcp(1),
    "IPv6": over_ipv6(UDP, udp(5, 6)),
    "ARP": ethernet(ARP, arp()),
    "unknown": ethernet(0x88B5, bytes(46)),
    "one more tag in the frame": tagged(1),
    "one more tag in the frame, IPv6": ethernet(VLAN, vlan(7, IPV6, ipv6(UDP, udp(5, 6)))),
    "two more tags in the frame": ethernet(SERVICE_VLAN, vlan(7, VLAN, vlan(8, IPV6, ipv6(UDP, udp(5, 6))))),
    "three more tags in the frame": ethernet(VLAN, vlan(7, VLAN, vlan(8, VLAN, vlan(9, IPV6, ipv6(UDP, udp(5, 6)))))),
}


@pytest.mark.parametrize("outer", [VLAN, SERVICE_VLAN], ids=["802.1Q", "802.1ad"])
@pytest.mark.parametrize("inside", STRIPPED)
def test_tag_that_was_taken_off_counts_as_if_it_were_there(
    hook: Counter, stripping: Program, inside: str, outer: int
) -> None:
    frame = STRIPPED[inside]
    count_stripped(stripping, frame, 0xA000 | 100, ethertype=outer)
    key, tcp_flags = parse(frame, stripped_tag=0xA000 | 100)
    assert key.vlan_id == 100
    assert hook.finish().sums == {hook.here(key): (1, len(frame) + 4, tcp_flags)}


@pytest.mark.parametrize("inside", STRIPPED)
def test_frame_is_the_same_flow_with_its_outer_tag_beside_it_or_in_it(
    hook: Counter, stripping: Program, inside: str
) -> None:
    """However many tags there are: of those that the walk reads, the one beside the frame is the first."""
    frame = STRIPPED[inside]
    whole = frame[:12] + VLAN.to_bytes(2, "big") + (100).to_bytes(2, "big") + frame[12:]
    count_stripped(stripping, frame, 100)
    hook.count(whole)
    flows = hook.finish().sums
    assert [(key.vlan_id, packets, size) for key, (packets, size, _) in flows.items()] == [(100, 2, 2 * len(whole))]


def test_tag_in_the_frame_and_tag_beside_it_are_one_flow(hook: Counter, stripping: Program) -> None:
    count_stripped(stripping, merged_tcp(10), 42)
    hook.count(tagged(10))
    assert hook.finish().sums == {hook.here(FLOW._replace(vlan_id=42)): (2, 2 * len(tagged(10)), ACK)}


def test_priority_tag_that_was_taken_off_is_vlan_0(hook: Counter, stripping: Program) -> None:
    count_stripped(stripping, tagged(10), 0xE000)
    assert hook.finish().sums == {hook.here(FLOW): (1, len(tagged(10)) + 4, ACK)}


def test_every_segment_of_a_merged_packet_has_the_tag_that_was_taken_off(hook: Counter, stripping: Program) -> None:
    count_stripped(stripping, merged_tcp(2500), 42, gso_size=1000)
    assert hook.finish().sums == {hook.here(FLOW._replace(vlan_id=42)): (3, 2500 + 3 * (54 + 4), ACK)}
