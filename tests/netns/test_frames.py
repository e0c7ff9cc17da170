"""Tags, extension headers, fragments, RoCE: one frame each through a real interface, at every hook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.netns.load import send_frames
from tests.netns.tool import flows, running, total
from tests.support.frames import (
    AH,
    DESTINATION,
    DST6,
    FRAGMENT_HEADER,
    HOP_BY_HOP,
    IPV4,
    IPV6,
    ROCE_V1,
    ROCE_V2_PORT,
    SERVICE_VLAN,
    SRC6,
    TCP,
    UDP,
    VLAN,
    ah,
    bth,
    deth,
    ethernet,
    extension,
    fragment_header,
    grh,
    ipv4,
    ipv6,
    roce,
    tcp,
    udp,
    vlan,
)
from tests.support.net import assert_sums_close, quiet_pair, veth_pair

HOOKS = pytest.mark.parametrize("options", [("--hook", "xdp"), ("--hook", "tc")], ids=["XDP", "tc"])
PAYLOAD = bytes(range(200))
WRITE_LAST, ACKNOWLEDGE, UD_SEND_ONLY = 0x08, 0x11, 0x64


def received(frames: Sequence[bytes], *options: str) -> list[dict[str, Any]]:
    """The records of far0, which received these frames and nothing else."""
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", *options) as tool:
        send_frames(pair.near, "near0", frames)
        result = tool.stop()
    assert result.code == 0
    assert_sums_close(result.records)
    assert (total(result.records), total(result.records, "bytes")) == (len(frames), sum(map(len, frames)))
    return result.records


@HOOKS
def test_a_tagged_frame_is_counted_with_its_vlan_id_and_the_tag_in_its_bytes(options: tuple[str, str]) -> None:
    """The receiver's kernel takes the tag off before tc sees the frame."""
    frame = ethernet(VLAN, vlan(42, IPV4, ipv4(TCP, tcp(1024, 80, payload=PAYLOAD)), priority=5))
    (flow,) = flows(received([frame] * 3, *options))
    assert (flow["vlan"], flow["traffic_type"], flow["src_port"], flow["dst_port"]) == (42, "TCP", 1024, 80)
    assert (flow["packets"], flow["bytes"]) == (3, 3 * len(frame))


@HOOKS
def test_of_two_tags_the_outer_vlan_id_is_shown_and_the_packet_behind_both(options: tuple[str, str]) -> None:
    inner = vlan(20, IPV6, ipv6(UDP, udp(5353, 53, PAYLOAD)))
    frame = ethernet(SERVICE_VLAN, vlan(10, VLAN, inner))
    (flow,) = flows(received([frame], *options))
    assert (flow["vlan"], flow["traffic_type"], flow["dst_port"]) == (10, "UDP", 53)
    assert (flow["src_ip"], flow["dst_ip"], flow["bytes"]) == (SRC6, DST6, len(frame))


def test_a_tagged_frame_leaves_with_the_same_figures_as_it_arrives() -> None:
    frame = ethernet(VLAN, vlan(42, IPV4, ipv4(TCP, tcp(1024, 80, payload=PAYLOAD))))
    with (
        quiet_pair() as pair,
        running(pair.near, "-i", "near0", "-t", "1h", "--direction", "egress") as near,
        running(pair.far, "-i", "far0", "-t", "1h", "--hook", "tc") as far,
    ):
        send_frames(pair.near, "near0", [frame])
        ((sent,), (arrived,)) = (flows(tool.stop().records) for tool in (near, far))
    compared = ("src_ip", "dst_ip", "src_port", "dst_port", "vlan", "packets", "bytes")
    assert [sent[name] for name in compared] == [arrived[name] for name in compared]
    assert (sent["vlan"], sent["bytes"]) == (42, len(frame))


@HOOKS
def test_ports_are_found_behind_ipv6_extension_headers(options: tuple[str, str]) -> None:
    headers = extension(DESTINATION, extension(AH, ah(TCP, tcp(1024, 443, payload=PAYLOAD))), length=2)
    frame = ethernet(IPV6, ipv6(HOP_BY_HOP, headers))
    (flow,) = flows(received([frame], *options))
    assert (flow["protocol"], flow["traffic_type"], flow["src_port"], flow["dst_port"]) == (TCP, "TCP", 1024, 443)
    assert flow["tcp_flags"] == "ACK"
    assert "fragment" not in flow


@HOOKS
def test_ipv6_fragments_are_marked_and_only_the_first_has_ports(options: tuple[str, str]) -> None:
    frames = [
        ethernet(IPV6, ipv6(FRAGMENT_HEADER, fragment_header(UDP, udp(4000, 4001, PAYLOAD), more=True))),
        ethernet(IPV6, ipv6(FRAGMENT_HEADER, fragment_header(UDP, PAYLOAD, offset=26))),
    ]
    later, first = sorted(flows(received(frames, *options)), key=lambda flow: flow["src_port"])
    assert (first["src_port"], first["dst_port"], first["fragment"]) == (4000, 4001, True)
    assert (later["src_port"], later["dst_port"], later["fragment"]) == (0, 0, True)
    assert {(flow["src_ip"], flow["traffic_type"]) for flow in (first, later)} == {(SRC6, "UDP")}


@HOOKS
@pytest.mark.parametrize(
    ("source", "destination", "request_type", "header"),
    [("10.0.0.1", "10.0.0.2", 8, 20), ("fd00::1", "fd00::2", 128, 48)],
    ids=["IPv4", "IPv6"],
)
def test_a_ping_of_4000_bytes_is_two_flows_of_fragments(
    options: tuple[str, str], source: str, destination: str, request_type: int, header: int
) -> None:
    """1500 bytes hold 1480 or 1448 of the 4008, so each request is three fragments."""
    with veth_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", *options) as tool:
        pair.near.ping(destination, 5, "-s4000")
        lines = tool.stop().records
    assert_sums_close(lines)
    seen = flows(lines, src_ip=source, dst_ip=destination, fragment=True)
    first, later = sorted(seen, key=lambda flow: flow["packets"])
    assert (first["packets"], first["icmp_type"], first["icmp_code"]) == (5, request_type, 0)
    assert later["packets"] == 10
    assert "icmp_type" not in later
    assert (later["src_port"], later["dst_port"]) == (0, 0)
    assert first["bytes"] + later["bytes"] == 5 * (4008 + 3 * (14 + header))


@HOOKS
def test_frames_of_mtu_9000_are_counted_whole_in_both_directions(options: tuple[str, str]) -> None:
    hook = ("--xdp-mode", "native") if "xdp" in options else options
    both = ("-i", "far0", "-t", "1h", "--direction", "both", *hook)
    with quiet_pair(mtu=9000) as pair, running(pair.far, *both, programs=2) as tool:
        pair.near.ping("10.0.0.2", 5, "-s8972", "-Mdo")
        lines = tool.stop().records
    assert_sums_close(lines)
    for direction, kind in (("ingress", 8), ("egress", 0)):
        (flow,) = flows(lines, direction=direction)
        assert (flow["icmp_type"], flow["packets"], flow["bytes"]) == (kind, 5, 5 * 9014)


ROCE_FRAMES = [
    ethernet(IPV4, ipv4(UDP, roce(bth(WRITE_LAST, 193, PAYLOAD)))),
    ethernet(IPV6, ipv6(UDP, roce(bth(UD_SEND_ONLY, 1, deth(194, PAYLOAD))))),
    ethernet(ROCE_V1, grh(bth(ACKNOWLEDGE, 0xABCDEF, bytes(4)))),
]


@HOOKS
def test_roce_rows_are_queue_pairs_with_the_opcode(options: tuple[str, str]) -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", "-o", "text", *options) as tool:
        send_frames(pair.near, "near0", ROCE_FRAMES)
        shown = tool.stop().stdout.decode().splitlines()
    sizes = [len(frame) for frame in ROCE_FRAMES]
    assert sorted(shown[:-1]) == sorted(
        [
            f"?:0 -> 193:0 proto=8 packets=1 bytes={sizes[0]} [RoCE_v2 RDMA_WRITE_LAST] far0 10.0.0.1 -> 10.0.0.2",
            f"194:0 -> 1:0 proto=100 packets=1 bytes={sizes[1]} [RoCE_v2 UD_SEND_ONLY] far0 fd00::1 -> fd00::2",
            f"?:0 -> 11259375:0 proto=17 packets=1 bytes={sizes[2]} [RoCE_v1_IBoE ACKNOWLEDGE] far0 fd00::1 -> fd00::2",
        ]
    )
    assert shown[-1].endswith(f" flows=3 packets=3 bytes={sum(sizes)} unattributed=0 filtered=0")


@HOOKS
def test_roce_records_have_queue_pairs_and_opcodes_instead_of_ports(options: tuple[str, str]) -> None:
    lines = received(ROCE_FRAMES, *options)
    names = ("traffic_type", "src_qpn", "dst_qpn", "opcode", "opcode_name", "src_port", "dst_port", "protocol")
    assert sorted(([flow[name] for name in names] for flow in flows(lines)), key=str) == [
        ["RoCE_v1_IBoE", None, 0xABCDEF, ACKNOWLEDGE, "ACKNOWLEDGE", 0, 0, None],
        ["RoCE_v2", 194, 1, UD_SEND_ONLY, "UD_SEND_ONLY", 0, 0, UDP],
        ["RoCE_v2", None, 193, WRITE_LAST, "RDMA_WRITE_LAST", 0, 0, UDP],
    ]


OTHER_UDP = bytes.fromhex("8060 0001 00000000 deadbeef") + b"r" * 160
SPANNING_TREE = bytes.fromhex("424203") + bytes(35)


@HOOKS
def test_what_only_looks_like_a_header_is_none(options: tuple[str, str]) -> None:
    """Ports in the padding, another protocol on RoCE's port, a length in place of an ethertype."""
    padded = ethernet(IPV4, ipv4(UDP, udp(1024, 53, bytes(18)), total=20))
    other = ethernet(IPV4, ipv4(UDP, udp(40000, ROCE_V2_PORT, OTHER_UDP)))
    spanning_tree = [ethernet(length, SPANNING_TREE.ljust(46, b"\0")) for length in (38, 39)]
    seen = flows(received([padded, other, *spanning_tree], *options))
    names = ("traffic_type", "src_port", "dst_port", "packets")
    assert sorted([flow[name] for name in names] for flow in seen) == [
        ["Other", 0, 0, 2],
        ["UDP", 0, 0, 1],
        ["UDP", 40000, ROCE_V2_PORT, 1],
    ]
    assert [flow["ethertype"] for flow in seen if "ethertype" in flow] == [4]


@HOOKS
def test_ports_are_found_behind_ipv4_s_authentication_header(options: tuple[str, str]) -> None:
    (flow,) = flows(received([ethernet(IPV4, ipv4(AH, ah(TCP, tcp(1024, 443, payload=PAYLOAD))))], *options))
    assert (flow["protocol"], flow["traffic_type"], flow["src_port"], flow["dst_port"]) == (TCP, "TCP", 1024, 443)
