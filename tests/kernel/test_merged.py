"""A merged packet counts as the packets it is on the wire, each with all its headers, through tunnels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import pytest

from tests.kernel.counter import TC, Counter, skb_context
from tests.support.frames import (
    ACK,
    AH,
    DESTINATION,
    ETHERNET,
    GRE,
    HOP_BY_HOP,
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
    ah,
    ethernet,
    extension,
    geneve,
    gre,
    gtp,
    ipv4,
    ipv6,
    mpls,
    nvgre,
    pppoe,
    tcp,
    udp,
    vlan,
    vxlan,
)
from xtrace.model.words import Direction

pytestmark = pytest.mark.parametrize("any_hook", [(TC, Direction.INGRESS)], ids=["ingress"], indirect=True)

SEGMENT = 700
PAYLOAD = bytes(2 * SEGMENT + 1)
SEGMENTS = 3

Layer = Callable[[bytes], bytes]
"""Puts headers before what it is given."""

TIMESTAMPS = b"\x01\x01\x08\x0a" + bytes(8)

TRANSPORTS: Mapping[str, tuple[int, Layer]] = {
    "TCP": (TCP, lambda data: tcp(5, 6, ACK, data)),
    "TCP with options": (TCP, lambda data: tcp(5, 6, ACK, data, options=TIMESTAMPS)),
    "UDP": (UDP, lambda data: udp(5, 6, data)),
}

NETWORKS: Mapping[str, tuple[int, Callable[[int, bytes], bytes]]] = {
    "IPv4": (IPV4, ipv4),
    "IPv4 with options": (IPV4, lambda protocol, data: ipv4(protocol, data, options=b"\x01" * 8)),
    "IPv4 AH": (IPV4, lambda protocol, data: ipv4(AH, ah(protocol, data))),
    "IPv6": (IPV6, ipv6),
    "IPv6 with extension headers": (
        IPV6,
        lambda protocol, data: ipv6(HOP_BY_HOP, extension(DESTINATION, extension(protocol, data, length=2))),
    ),
}

LINKS: Mapping[str, Callable[[int, bytes], bytes]] = {
    "Ethernet": ethernet,
    "one tag": lambda ethertype, data: ethernet(VLAN, vlan(1, ethertype, data)),
    "three tags": lambda ethertype, data: ethernet(
        SERVICE_VLAN, vlan(1, VLAN, vlan(2, VLAN, vlan(3, ethertype, data)))
    ),
    "PPPoE": lambda ethertype, data: ethernet(PPPOE, pppoe(0x21 if ethertype == IPV4 else 0x57, data)),
    "MPLS": lambda ethertype, data: ethernet(MPLS, mpls(1, data)),
    "MPLS of three labels": lambda ethertype, data: ethernet(MPLS, mpls(3, data)),
}

Tunnel = tuple[int, Callable[[int, bytes], bytes]]
"""The protocol it is in, and what is put before a packet of an ethertype."""


def in_ip(ethertype: int, data: bytes) -> bytes:
    return data


TUNNELS: Mapping[str, Tunnel] = {
    "VXLAN": (UDP, lambda ethertype, data: vxlan(42, ethernet(ethertype, data))),
    "VXLAN on Linux's port": (UDP, lambda ethertype, data: vxlan(42, ethernet(ethertype, data), port=8472)),
    "VXLAN, tagged": (UDP, lambda ethertype, data: vxlan(42, ethernet(VLAN, vlan(7, ethertype, data)))),
    "Geneve": (UDP, lambda ethertype, data: geneve(42, ETHERNET, ethernet(ethertype, data))),
    "Geneve with options": (
        UDP,
        lambda ethertype, data: geneve(42, ETHERNET, ethernet(ethertype, data), options=bytes(60)),
    ),
    "Geneve of IP": (UDP, lambda ethertype, data: geneve(42, ethertype, data)),
    "GRE": (GRE, gre),
    "GRE with all options": (
        GRE,
        lambda ethertype, data: gre(ethertype, data, checksum=True, key=7, sequence=True),
    ),
    "GRE with a key": (GRE, lambda ethertype, data: gre(ethertype, data, key=7)),
    "NVGRE": (GRE, lambda ethertype, data: nvgre(42, ethernet(ethertype, data))),
    "GTP-U": (UDP, lambda ethertype, data: gtp(42, data)),
    "GTP-U with a sequence number": (UDP, lambda ethertype, data: gtp(42, data, sequence=True)),
    "GTP-U with an extension header": (UDP, lambda ethertype, data: gtp(42, data, extensions=1)),
    "MPLS in IP": (IN_MPLS, lambda ethertype, data: mpls(2, data)),
    "MPLS in GRE": (GRE, lambda ethertype, data: gre(MPLS, mpls(1, data))),
}
IN_IP = {IPV4: IPIP, IPV6: IN_IPV6}


def measured(hook: Counter, frame: bytes, headers: int, number: int = 0, removed: int = 0) -> None:
    """Count it as merged, and compare with segments of so many bytes of headers, less what no segment has."""
    hook.count(frame, context=skb_context(gso_size=SEGMENT, gso_segs=number))
    key, flags = hook.parse(frame)
    expected = len(frame) - removed + (SEGMENTS - 1) * headers
    assert hook.take().sums == {key: (SEGMENTS, expected, flags)}


def stacked(link: str, outer: str, tunnel: str, inner: str, transport: str) -> bytes:
    """A frame with a packet in a tunnel; `in IP` is the packet in the other one."""
    protocol, put_transport = TRANSPORTS[transport]
    ethertype, put_inner = NETWORKS[inner]
    packet = put_inner(protocol, put_transport(PAYLOAD))
    outer_ethertype, put_outer = NETWORKS[outer]
    in_protocol, put_tunnel = (IN_IP[ethertype], in_ip) if tunnel == "in IP" else TUNNELS[tunnel]
    return LINKS[link](outer_ethertype, put_outer(in_protocol, put_tunnel(ethertype, packet)))


@pytest.mark.parametrize("number", [0, SEGMENTS], ids=["number unknown", "number known"])
@pytest.mark.parametrize("link", LINKS)
def test_segments_without_a_tunnel_have_all_headers(hook: Counter, link: str, number: int) -> None:
    for ethertype, put_network in NETWORKS.values():
        for protocol, put_transport in TRANSPORTS.values():
            frame = LINKS[link](ethertype, put_network(protocol, put_transport(PAYLOAD)))
            measured(hook, frame, len(frame) - len(PAYLOAD), number)


@pytest.mark.parametrize("inner", NETWORKS)
@pytest.mark.parametrize("tunnel", [*TUNNELS, "in IP"])
def test_segments_in_a_tunnel_have_the_headers_of_both_packets(hook: Counter, tunnel: str, inner: str) -> None:
    for transport in TRANSPORTS:
        for outer in ("IPv4", "IPv6"):
            frame = stacked("Ethernet", outer, tunnel, inner, transport)
            measured(hook, frame, len(frame) - len(PAYLOAD))


def test_segments_have_the_headers_of_any_stack(hook: Counter) -> None:
    random = Random(7)
    for _ in range(150):
        names = [
            random.choice(list(choices)) for choices in (LINKS, NETWORKS, [*TUNNELS, "in IP"], NETWORKS, TRANSPORTS)
        ]
        frame = stacked(*names)
        if hook.takes(frame):
            measured(hook, frame, len(frame) - len(PAYLOAD), random.choice((0, SEGMENTS)))


def test_a_tunnel_in_a_tunnel_is_looked_into(hook: Counter) -> None:
    packet = ipv4(IPIP, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD)))
    frame = ethernet(IPV4, ipv4(UDP, vxlan(1, ethernet(IPV4, packet))))
    measured(hook, frame, len(frame) - len(PAYLOAD))


def test_damaged_headers_count_at_most_what_is_there(hook: Counter) -> None:
    random = Random(8)
    grown = 0
    for _ in range(150):
        frame = bytearray(
            stacked(*(random.choice(list(choices)) for choices in (LINKS, NETWORKS, TUNNELS, NETWORKS, TRANSPORTS)))
        )
        for _ in range(random.randrange(1, 3)):
            frame[12 + random.randrange(120)] = random.getrandbits(8)
        if hook.takes(bytes(frame)):
            hook.count(bytes(frame), context=skb_context(gso_size=SEGMENT, gso_segs=SEGMENTS))
            (packets, size) = hook.take().total
            assert packets == SEGMENTS
            assert len(frame) - 8 * 6 <= size <= SEGMENTS * len(frame), frame.hex()
            grown += size > len(frame)
    assert grown > 30, "no headers were found: the test shows nothing"


# a sender's own datagrams, each with a packet of its own

DATAGRAM = ethernet(IPV4, ipv4(UDP, udp(5, 6, bytes(SEGMENT - 8 - 14 - 20 - 8))))
OWN = {
    "VXLAN": vxlan(42, DATAGRAM)[8:],
    "Geneve": geneve(42, ETHERNET, DATAGRAM)[8:],
    "GTP-U": gtp(42, ipv4(UDP, udp(5, 6, bytes(SEGMENT - 8 - 20 - 8))))[8:],
    "no VXLAN, no network": vxlan(42, DATAGRAM, flags=0)[8:],
    "nothing": bytes(SEGMENT),
}
PORTS = {"VXLAN": 4789, "Geneve": 6081, "GTP-U": 2152, "no VXLAN, no network": 4789, "nothing": 4789}


@pytest.mark.parametrize("kind", OWN)
def test_datagrams_that_a_sender_had_cut_have_the_headers_of_one_packet(hook: Counter, kind: str) -> None:
    data = (OWN[kind] * SEGMENTS)[: len(PAYLOAD)]
    for network, ethertype in ((ipv4, IPV4), (ipv6, IPV6)):
        frame = ethernet(ethertype, network(UDP, udp(49152, PORTS[kind], data)))
        measured(hook, frame, len(frame) - len(data))


def test_more_extension_headers_of_gtp_than_one_are_not_walked(hook: Counter) -> None:
    frame = ethernet(IPV4, ipv4(UDP, gtp(42, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD)), extensions=2)))
    measured(hook, frame, 14 + 20 + 8)


# what is not known

UNKNOWN = {
    "GRE of another version": ipv4(GRE, bytes([0, 1]) + gre(IPV4, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD)))[2:]),
    "GRE with routing": ipv4(GRE, bytes([0x40, 0]) + gre(IPV4, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD)))[2:]),
    "GRE of an unknown protocol": ipv4(GRE, gre(0x88B5, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD)))),
    "IPv6 that is none": ipv4(IN_IPV6, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD))),
    "MPLS with something else": ipv4(IN_MPLS, mpls(1, b"\x00" + PAYLOAD)),
    "MPLS with less than a packet": ipv4(IN_MPLS, mpls(1, ipv4(TCP, tcp(5, 6, ACK, PAYLOAD), total=1000))),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_bytes_are_as_merged_where_headers_are_unknown(hook: Counter, kind: str) -> None:
    frame = ethernet(IPV4, UNKNOWN[kind])
    hook.count(frame, context=skb_context(gso_size=SEGMENT, gso_segs=SEGMENTS))
    key, flags = hook.parse(frame)
    assert hook.take().sums == {key: (SEGMENTS, len(frame), flags)}


JUMBO = bytes([0xC2, 4]) + (8 + 20 + len(PAYLOAD)).to_bytes(4, "big")


def test_segments_lack_the_jumbo_option_of_a_packet_longer_than_ipv6_can_say(hook: Counter) -> None:
    segment = tcp(5, 6, ACK, PAYLOAD)
    frame = ethernet(IPV6, ipv6(HOP_BY_HOP, bytes([TCP, 0]) + JUMBO + segment))
    measured(hook, frame, 14 + 40 + 20, removed=8)
    padded = ethernet(IPV6, ipv6(HOP_BY_HOP, bytes([TCP, 1]) + JUMBO + bytes(8) + segment))
    measured(hook, padded, 14 + 40 + 16 + 20)
