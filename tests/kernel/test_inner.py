"""With --tunnel inner the flow is that of the packet in the outermost tunnel, and the bytes are the whole frame's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import pytest

from tests.kernel.case import WEB
from tests.kernel.conftest import HOOKS
from tests.kernel.counter import Counter, counting, skb_context, xdp_context
from tests.kernel.reference import parse, parse_inner
from tests.kernel.test_merged import IN_IP, LINKS, NETWORKS, TUNNELS, in_ip
from tests.support.frames import (
    ACK,
    ARP,
    ESP,
    ETHERNET,
    FRAGMENT_HEADER,
    GRE,
    IN_IPV6,
    IN_MPLS,
    IPIP,
    IPV4,
    IPV6,
    MPLS,
    PPPOE,
    SERVICE_VLAN,
    TCP,
    UDP,
    VLAN,
    arp,
    bth,
    deth,
    esp,
    ethernet,
    fragment_header,
    geneve,
    gre,
    gtp,
    ipv4,
    ipv6,
    mpls,
    nvgre,
    pppoe,
    roce,
    tcp,
    udp,
    vlan,
    vxlan,
)
from xtrace.model.filters import Filters, parse_networks
from xtrace.model.flow import FRAGMENT, HAS_SRC_QPN, ROCE_V2, FlowKey, PacketCount
from xtrace.sinks.render import address

INNER4 = ipv4(TCP, WEB, src="192.0.2.1", dst="192.0.2.2")
INNER6 = ipv6(TCP, WEB, src="2001:db8::1", dst="2001:db8::2")
FRAME4, FRAME6 = ethernet(IPV4, INNER4), ethernet(IPV6, INNER6)
TAGGED4 = ethernet(VLAN, vlan(77, IPV4, INNER4))

Said = tuple[str, str, int | None, int, int]
"""Source address, tunnel, number, VLAN, inner VLAN."""

V4, V6 = "192.0.2.1", "2001:db8::1"

FOUND: Mapping[str, tuple[bytes, Said]] = {
    "VXLAN": (ethernet(IPV4, ipv4(UDP, vxlan(42, FRAME4))), (V4, "vxlan", 42, 0, 0)),
    "VXLAN on Linux's port": (ethernet(IPV4, ipv4(UDP, vxlan(42, FRAME6, port=8472))), (V6, "vxlan", 42, 0, 0)),
    "VXLAN over IPv6": (ethernet(IPV6, ipv6(UDP, vxlan(0xFFFFFF, FRAME4))), (V4, "vxlan", 0xFFFFFF, 0, 0)),
    "VXLAN 0": (ethernet(IPV4, ipv4(UDP, vxlan(0, FRAME4))), (V4, "vxlan", 0, 0, 0)),
    "VXLAN of a tagged frame": (ethernet(IPV4, ipv4(UDP, vxlan(42, TAGGED4))), (V4, "vxlan", 42, 0, 77)),
    "VXLAN of a padded frame": (ethernet(IPV4, ipv4(UDP, vxlan(1, FRAME4 + bytes(9)))), (V4, "vxlan", 1, 0, 0)),
    "VXLAN in a tagged frame": (
        ethernet(VLAN, vlan(7, IPV4, ipv4(UDP, vxlan(42, TAGGED4)))),
        (V4, "vxlan", 42, 7, 77),
    ),
    "VXLAN behind two tags": (
        ethernet(SERVICE_VLAN, vlan(7, VLAN, vlan(8, IPV4, ipv4(UDP, vxlan(42, FRAME4))))),
        (V4, "vxlan", 42, 7, 8),
    ),
    "Geneve": (ethernet(IPV4, ipv4(UDP, geneve(42, ETHERNET, FRAME4))), (V4, "geneve", 42, 0, 0)),
    "Geneve with options": (
        ethernet(IPV4, ipv4(UDP, geneve(9, ETHERNET, FRAME6, options=bytes(100)))),
        (V6, "geneve", 9, 0, 0),
    ),
    "Geneve of IP": (ethernet(IPV4, ipv4(UDP, geneve(42, IPV6, INNER6))), (V6, "geneve", 42, 0, 0)),
    "GRE": (ethernet(IPV4, ipv4(GRE, gre(IPV4, INNER4))), (V4, "gre", None, 0, 0)),
    "GRE over IPv6": (ethernet(IPV6, ipv6(GRE, gre(IPV6, INNER6))), (V6, "gre", None, 0, 0)),
    "GRE with a key": (ethernet(IPV4, ipv4(GRE, gre(IPV4, INNER4, key=0xFEDCBA98))), (V4, "gre", 0xFEDCBA98, 0, 0)),
    "GRE with key 0": (ethernet(IPV4, ipv4(GRE, gre(IPV4, INNER4, key=0))), (V4, "gre", 0, 0, 0)),
    "GRE with all options": (
        ethernet(IPV4, ipv4(GRE, gre(IPV4, INNER4, checksum=True, key=7, sequence=True))),
        (V4, "gre", 7, 0, 0),
    ),
    "GRE with checksum and sequence": (
        ethernet(IPV4, ipv4(GRE, gre(IPV6, INNER6, checksum=True, sequence=True))),
        (V6, "gre", None, 0, 0),
    ),
    "GRE of frames": (ethernet(IPV4, ipv4(GRE, gre(ETHERNET, TAGGED4))), (V4, "gre", None, 0, 77)),
    "NVGRE": (ethernet(IPV4, ipv4(GRE, nvgre(42, FRAME4))), (V4, "gre", 42 << 8, 0, 0)),
    "IPv4 in IPv4": (ethernet(IPV4, ipv4(IPIP, INNER4)), (V4, "ipip", None, 0, 0)),
    "IPv6 in IPv4": (ethernet(IPV4, ipv4(IN_IPV6, INNER6)), (V6, "sit", None, 0, 0)),
    "IPv4 in IPv6": (ethernet(IPV6, ipv6(IPIP, INNER4)), (V4, "ip6tnl", None, 0, 0)),
    "IPv6 in IPv6": (ethernet(IPV6, ipv6(IN_IPV6, INNER6)), (V6, "ip6tnl", None, 0, 0)),
    "GTP-U": (ethernet(IPV4, ipv4(UDP, gtp(0xFEDCBA98, INNER4))), (V4, "gtp", 0xFEDCBA98, 0, 0)),
    "GTP-U with a sequence number": (ethernet(IPV4, ipv4(UDP, gtp(1, INNER6, sequence=True))), (V6, "gtp", 1, 0, 0)),
    "GTP-U of 5G": (ethernet(IPV4, ipv4(UDP, gtp(1, INNER4, extensions=1))), (V4, "gtp", 1, 0, 0)),
    "MPLS": (ethernet(MPLS, mpls(1, INNER4)), (V4, "mpls", None, 0, 0)),
    "MPLS of four labels": (ethernet(MPLS, mpls(4, INNER6)), (V6, "mpls", None, 0, 0)),
    "MPLS in IP": (ethernet(IPV4, ipv4(IN_MPLS, mpls(2, INNER4))), (V4, "mpls", None, 0, 0)),
    "MPLS in GRE": (ethernet(IPV4, ipv4(GRE, gre(MPLS, mpls(2, INNER4), key=3))), (V4, "gre", 3, 0, 0)),
    "PPPoE": (ethernet(PPPOE, pppoe(0x21, INNER4)), (V4, "pppoe", None, 0, 0)),
    "PPPoE of IPv6, padded": (ethernet(PPPOE, pppoe(0x57, INNER6)) + bytes(6), (V6, "pppoe", None, 0, 0)),
    "PPPoE behind two tags": (
        ethernet(SERVICE_VLAN, vlan(4095, VLAN, vlan(4094, PPPOE, pppoe(0x21, INNER4)))),
        (V4, "pppoe", None, 4095, 4094),
    ),
}


def padded(labels: int) -> bytes:
    """The shortest frame, with a short packet behind labels."""
    return ethernet(MPLS, mpls(labels, ipv4(TCP, tcp(40000, 80, ACK)))).ljust(60, b"\0")


STAYS: Mapping[str, bytes] = {
    "ESP": ethernet(IPV4, ipv4(ESP, esp(INNER4))),
    "first fragment of the outer packet": ethernet(IPV4, ipv4(UDP, vxlan(42, FRAME4), more=True)),
    "later fragment of the outer packet": ethernet(IPV4, ipv4(IPIP, INNER4, offset=5)),
    "first fragment of an outer IPv6 packet": ethernet(
        IPV6, ipv6(FRAGMENT_HEADER, fragment_header(IPIP, INNER4, more=True))
    ),
    "ARP in VXLAN": ethernet(IPV4, ipv4(UDP, vxlan(42, ethernet(ARP, arp())))),
    "VXLAN without a network": ethernet(IPV4, ipv4(UDP, vxlan(42, FRAME4, flags=0))),
    "VXLAN to another port": ethernet(IPV4, ipv4(UDP, vxlan(42, FRAME4, port=4790))),
    "VXLAN whose packet is longer": ethernet(IPV4, ipv4(UDP, vxlan(1, ethernet(IPV4, ipv4(TCP, WEB, total=500))))),
    "Geneve of another version": ethernet(IPV4, ipv4(UDP, geneve(42, ETHERNET, FRAME4, version=1))),
    "GRE of another version": ethernet(IPV4, ipv4(GRE, b"\x00\x01" + gre(IPV4, INNER4)[2:])),
    "GRE with routing": ethernet(IPV4, ipv4(GRE, b"\x40\x00" + gre(IPV4, INNER4)[2:])),
    "GRE of something else": ethernet(IPV4, ipv4(GRE, gre(0x88B5, INNER4))),
    "GTP-U, no user's packet": ethernet(IPV4, ipv4(UDP, gtp(1, INNER4, type_=1))),
    "GTP-U with two extension headers": ethernet(IPV4, ipv4(UDP, gtp(1, INNER4, extensions=2))),
    "GTP-U with something behind the packet": ethernet(IPV4, ipv4(UDP, gtp(1, INNER4 + b"\0"))),
    "IPv6 that is none": ethernet(IPV4, ipv4(IN_IPV6, INNER4)),
    "MPLS with a frame whose address begins with 45": ethernet(MPLS, mpls(1, b"\x45" + FRAME4[1:])),
    "MPLS with a wrong checksum": ethernet(MPLS, mpls(1, INNER4[:10] + b"\0\0" + INNER4[12:])),
    "MPLS with something behind the packet": ethernet(MPLS, mpls(1, INNER6 + b"\0")),
    "MPLS of five labels": ethernet(MPLS, mpls(5, INNER4)),
    "PPPoE of something else": ethernet(PPPOE, pppoe(0xC021, INNER4)),
    "an inner header that is cut short": ethernet(IPV4, ipv4(IPIP, INNER4[:19])),
    "no tunnel": ethernet(IPV4, ipv4(TCP, WEB)),
}


@pytest.fixture(scope="module", params=list(HOOKS.values()), ids=list(HOOKS))
def any_inner(request: pytest.FixtureRequest) -> Iterator[Counter]:
    program, direction = request.param
    with counting(program=program, direction=direction, filters=Filters(inner=True)) as counter:
        yield counter


@pytest.fixture
def inner(any_inner: Counter) -> Counter:
    """The program of each hook with --tunnel inner, with nothing counted yet."""
    any_inner.empty()
    return any_inner


def only_flow(counter: Counter, frame: bytes) -> FlowKey:
    """The flow of one frame, which counts with all its bytes."""
    interval = counter.measure([frame])
    assert interval.total == PacketCount(1, len(frame))
    (key,) = interval.flows
    return key


def said(key: FlowKey) -> Said:
    return address(key.src), key.tunnel, key.vni, key.vlan, key.inner_vlan


@pytest.mark.parametrize("kind", FOUND)
def test_flow_is_that_of_the_packet_in_the_tunnel(inner: Counter, kind: str) -> None:
    frame, expected = FOUND[kind]
    key = only_flow(inner, frame)
    assert said(key) == expected
    assert (key.src_port, key.dst_port, key.traffic_type, key.is_ip) == (40000, 80, "TCP", True)
    assert key == inner.parse(frame).key


@pytest.mark.parametrize("kind", STAYS)
def test_what_cannot_be_looked_into_stays_in_the_outer_flow(inner: Counter, kind: str) -> None:
    key = only_flow(inner, STAYS[kind])
    assert key == inner.here(parse(STAYS[kind]).key)
    assert (key.tunnel, key.vni) == ("", None)


def test_short_frame_may_be_padded_behind_the_packet(inner: Counter) -> None:
    assert len(padded(1)) > 14 + 4 + 40
    assert only_flow(inner, padded(1)).tunnel == "mpls"


def test_a_tunnel_in_a_tunnel_is_not_looked_into(inner: Counter) -> None:
    packet = ipv4(IPIP, INNER4, src="198.51.100.1", dst="198.51.100.2")
    key = only_flow(inner, ethernet(IPV4, ipv4(UDP, vxlan(42, ethernet(IPV4, packet)))))
    assert (key.tunnel, key.vni, key.protocol) == ("vxlan", 42, IPIP)
    key = only_flow(inner, ethernet(MPLS, mpls(1, ipv4(GRE, gre(IPV4, INNER4)))))
    assert (key.tunnel, key.protocol) == ("mpls", GRE)


def test_fragments_in_a_tunnel_are_fragments(inner: Counter) -> None:
    frame = ethernet(IPV4, ipv4(UDP, vxlan(42, ethernet(IPV4, ipv4(UDP, udp(5, 6, bytes(64)), more=True)))))
    key = only_flow(inner, frame)
    assert (key.tunnel, key.flags & FRAGMENT, key.dst_port) == ("vxlan", FRAGMENT, 6)


# VLAN tags without a tunnel


@pytest.mark.parametrize("second", [1, 42, 0x0FF, 0x100, 4095])
def test_second_tag_is_shown_without_a_tunnel(inner: Counter, second: int) -> None:
    key = only_flow(inner, ethernet(SERVICE_VLAN, vlan(100, VLAN, vlan(second, IPV4, ipv4(TCP, WEB)))))
    assert (key.vlan, key.inner_vlan, key.tunnel) == (100, second, "")
    key = only_flow(inner, ethernet(SERVICE_VLAN, vlan(4095, VLAN, vlan(second, ARP, arp()))))
    assert (key.vlan, key.inner_vlan, key.traffic_type) == (4095, second, "ARP")


UD_SEND = 0x64
DATAGRAM = roce(bth(UD_SEND, 0xABCDEF, deth(0x123456, bytes(16))))
RDMA = roce(bth(4, 0xABCDEF, bytes(16)))


def test_second_tag_leaves_the_queue_pairs_alone(inner: Counter) -> None:
    frame = ethernet(SERVICE_VLAN, vlan(100, VLAN, vlan(0xFED, IPV4, ipv4(UDP, DATAGRAM))))
    key = only_flow(inner, frame)
    assert (key.vlan, key.inner_vlan) == (100, 0xFED)
    assert (key.source_qpn, key.dst_qpn, key.opcode) == (0x123456, 0xABCDEF, UD_SEND)


def test_roce_in_a_tunnel_tells_its_source_where_the_tunnel_has_no_number(inner: Counter) -> None:
    key = only_flow(inner, ethernet(IPV4, ipv4(IPIP, ipv4(UDP, DATAGRAM))))
    assert (key.tunnel, key.source_qpn, key.dst_qpn) == ("ipip", 0x123456, 0xABCDEF)
    key = only_flow(inner, ethernet(IPV4, ipv4(UDP, vxlan(42, ethernet(IPV4, ipv4(UDP, DATAGRAM))))))
    assert (key.tunnel, key.vni, key.source_qpn, key.dst_qpn) == ("vxlan", 42, None, 0xABCDEF)
    assert key.flags & ROCE_V2
    assert not key.flags & HAS_SRC_QPN
    tagged = ethernet(VLAN, vlan(77, IPV4, ipv4(UDP, RDMA)))
    key = only_flow(inner, ethernet(IPV4, ipv4(UDP, vxlan(42, tagged))))
    assert (key.tunnel, key.vni, key.inner_vlan, key.dst_qpn, key.opcode) == ("vxlan", 42, 77, 0xABCDEF, 4)


# against the reference parser


def stacks(random: Random, count: int) -> Iterator[bytes]:
    """Frames of every link, network and tunnel, with some of their bytes changed or cut off in most."""
    for number in range(count):
        ethertype, inner = random.choice(list(NETWORKS.values()))
        outer_ethertype, outer = random.choice(list(NETWORKS.values()))
        protocol, tunnel = random.choice([*TUNNELS.values(), (IN_IP[ethertype], in_ip)])
        payload = random.choice([(TCP, tcp(number % 65536, 80, ACK, b"x")), (UDP, udp(5, 6)), (UDP, RDMA)])
        link = random.choice(list(LINKS.values()))
        frame = bytearray(link(outer_ethertype, outer(protocol, tunnel(ethertype, inner(*payload)))))
        for _ in range(random.randrange(3)):
            frame[12 + int(random.random() * (len(frame) - 12))] = random.choice((0, 1, 8, 0x45, 255))
        if random.random() < 0.1:
            del frame[random.randrange(40, len(frame)) :]
        yield bytes(frame)


def test_stacks_of_headers_are_counted_as_the_reference_parser_says(inner: Counter) -> None:
    frames = [frame for frame in stacks(Random(11), 3000) if inner.takes(frame)]
    interval = inner.measure(frames)
    expected = inner.expected(frames)
    wrong = [frame.hex() for frame in frames if inner.parse(frame).key not in interval.flows]
    assert wrong == []
    assert interval.sums == expected
    assert len({key.tunnel for key in interval.flows}) == 10


@pytest.mark.parametrize("kind", FOUND)
def test_frame_cut_anywhere_is_counted_with_what_is_left(inner: Counter, kind: str) -> None:
    frame = FOUND[kind][0]
    cuts = [frame[:length] for length in range(14, len(frame) + 1) if inner.takes(frame[:length])]
    assert inner.measure(cuts).sums == inner.expected(cuts)


# fragments of a frame, merged packets


@pytest.mark.parametrize("any_inner", [HOOKS["XDP"]], ids=["xdp"], indirect=True)
def test_packet_behind_the_linear_data_is_found(inner: Counter) -> None:
    if not inner.place.frags:
        pytest.skip("this kernel gives XDP programs no frames with fragments (Linux 5.18)")
    frame = ethernet(IPV4, ipv4(UDP, geneve(42, ETHERNET, FRAME4 + bytes(5000), options=bytes(100))))
    for linear in (14, 34, 42, 60, 100, 160, 200, 1000):
        inner.count(frame, context=xdp_context(linear))
        assert inner.take().sums == inner.expected([frame])


def merged(payload: bytes) -> bytes:
    return ethernet(IPV4, ipv4(UDP, vxlan(42, ethernet(IPV4, ipv4(TCP, tcp(5, 6, ACK, payload))))))


@pytest.mark.parametrize("any_inner", [HOOKS["tc ingress"]], ids=["tc"], indirect=True)
def test_merged_packet_is_looked_into_if_the_packet_inside_is_all_of_it(inner: Counter) -> None:
    frame, headers = merged(bytes(2001)), 14 + 20 + 8 + 8 + 14 + 20 + 20
    inner.count(frame, context=skb_context(gso_size=1000, gso_segs=3))
    ((key, (packets, size, _)),) = inner.take().sums.items()
    assert (key.tunnel, key.dst_port, packets, size) == ("vxlan", 6, 3, len(frame) + 2 * headers)
    own = vxlan(42, ethernet(IPV4, ipv4(UDP, udp(5, 6, bytes(500)))))[8:]
    frame = ethernet(IPV4, ipv4(UDP, udp(49152, 4789, own * 3)))
    inner.count(frame, context=skb_context(gso_size=len(own), gso_segs=3))
    ((key, (packets, _, _)),) = inner.take().sums.items()
    assert (key.tunnel, key.dst_port, packets) == ("", 4789, 3)


# filters


def test_filters_look_at_the_packet_inside() -> None:
    frames = [FOUND["VXLAN"][0], ethernet(IPV4, ipv4(UDP, vxlan(42, ethernet(IPV4, ipv4(TCP, WEB)))))]
    for filters, wanted in (
        (Filters(networks=parse_networks("192.0.2.0/24", "--net"), inner=True), frames[:1]),
        (Filters(excluded_networks=parse_networks("192.0.2.0/24", "--net"), inner=True), frames[1:]),
        (Filters(ports=frozenset({80}), inner=True), frames),
        (Filters(ports=frozenset({4789}), inner=True), []),
        (Filters(types=frozenset({"UDP"}), inner=True), []),
    ):
        with counting(filters=filters) as counter:
            interval = counter.measure(frames)
            assert interval.sums == counter.expected(wanted)
            assert interval.all.filtered.packets == len(frames) - len(wanted)


def test_reference_parser_agrees_with_what_is_written_down() -> None:
    for frame, expected in FOUND.values():
        assert said(parse_inner(frame).key) == expected
    for frame in STAYS.values():
        assert parse_inner(frame) == parse(frame)
