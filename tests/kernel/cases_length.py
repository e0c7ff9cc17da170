"""Packets end where their own length says: what an Ethernet frame has behind is padding, whatever it looks like."""

from __future__ import annotations

from tests.kernel.case import WEB, WEB_FLOW, WEB_FLOW6, Case, flow4, flow6
from tests.kernel.cases_roce import QPN, V1_FLOW, pair
from tests.support.frames import (
    ACK,
    AH,
    DESTINATION,
    FRAGMENT_HEADER,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    ROCE_V1,
    ROUTING,
    SCTP,
    TCP,
    UDP,
    VLAN,
    ah,
    bth,
    ethernet,
    extension,
    fragment_header,
    grh,
    icmp,
    ipv4,
    ipv6,
    roce,
    sctp,
    udp,
    vlan,
)
from xtrace.model.flow import FRAGMENT
from xtrace.model.flow import ROCE_V1 as IS_V1

IPV4_HEADER, UDP_HEADER, BASE_TRANSPORT_HEADER = 20, 8, 12
NAMES = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMP", SCTP: "SCTP"}
TRANSPORTS = {TCP: WEB, UDP: udp(5, 6, bytes(8)), SCTP: sctp(5, 6), ICMP: icmp(8, 1), ICMPV6: icmp(128, 1)}


def ends_at(protocol: int, length: int, payload: bytes) -> bytes:
    """A frame whose IPv4 packet has `length` bytes behind its header; the rest of `payload` is padding."""
    return ethernet(IPV4, ipv4(protocol, payload, total=IPV4_HEADER + length))


def ends_at6(protocol: int, length: int, payload: bytes) -> bytes:
    """The same with IPv6."""
    return ethernet(IPV6, ipv6(protocol, payload, length=length))


NO_TRANSPORT_CASES = [
    *(
        Case(f"{NAMES[protocol]} {protocol} in the padding", ends_at(protocol, 0, payload), flow4(protocol), name)
        for (protocol, payload), name in zip(TRANSPORTS.items(), ("TCP", "UDP", "SCTP", "ICMP", "ICMP"), strict=True)
    ),
    *(
        Case(f"{NAMES[protocol]} {protocol} behind IPv6", ends_at6(protocol, 0, payload), flow6(protocol), name)
        for (protocol, payload), name in zip(TRANSPORTS.items(), ("TCP", "UDP", "SCTP", "ICMP", "ICMP"), strict=True)
    ),
    Case("IPv4 that has room for half the ports", ends_at(TCP, 3, WEB), flow4(TCP), "TCP"),
    Case("IPv6 that has room for half the ports", ends_at6(UDP, 3, udp(5, 6)), flow6(UDP), "UDP"),
    Case("IPv4 that has room for the ICMP type alone", ends_at(ICMP, 1, icmp(8, 1)), flow4(ICMP), "ICMP"),
    Case("IPv4 of length 0", ethernet(IPV4, ipv4(TCP, WEB, total=0)), flow4(TCP), "TCP"),
    Case("IPv4 shorter than its header", ethernet(IPV4, ipv4(TCP, WEB, total=19)), flow4(TCP), "TCP"),
    Case(
        "IPv4 that ends inside its options, TCP behind",
        ethernet(IPV4, ipv4(TCP, WEB, options=b"\x01" * 8, total=24)),
        flow4(TCP),
        "TCP",
    ),
    Case(
        "802.1Q, UDP in the padding",
        ethernet(VLAN, vlan(42, IPV4, ipv4(UDP, udp(5, 6), total=20))),
        flow4(UDP, vlan_id=42),
        "UDP",
    ),
    Case("IPv4 longer than the frame", ends_at(TCP, 60000, WEB), WEB_FLOW, "TCP", ACK),
    Case("IPv6 longer than the frame", ends_at6(TCP, 60000, WEB), WEB_FLOW6, "TCP", ACK),
]

PART_CASES = [
    Case("ports, the TCP flags in the padding", ends_at(TCP, 12, WEB), WEB_FLOW, "TCP"),
    Case("ports, the TCP flags in the padding, IPv6", ends_at6(TCP, 4, WEB), WEB_FLOW6, "TCP"),
    Case("TCP flags as last byte", ends_at(TCP, 14, WEB), WEB_FLOW, "TCP", ACK),
    Case(
        "first fragment of 8 bytes",
        ethernet(IPV4, ipv4(TCP, WEB, more=True, total=28)),
        flow4(TCP, 40000, 80, flags=FRAGMENT),
        "TCP",
    ),
]

EXTENSION_CASES = [
    *(
        Case(
            f"IPv6 extension header {header} in the padding",
            ends_at6(header, 0, extension(TCP, WEB)),
            flow6(header),
            "Other",
        )
        for header in (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION)
    ),
    Case(
        "IPv6 extension header, its second half in the padding",
        ends_at6(DESTINATION, 8, extension(TCP, WEB, length=1)),
        flow6(TCP),
        "TCP",
    ),
    Case("IPv6 extension header, TCP in the padding", ends_at6(DESTINATION, 8, extension(TCP, WEB)), flow6(TCP), "TCP"),
    Case("IPv6 AH, TCP in the padding", ends_at6(AH, 24, ah(TCP, WEB)), flow6(TCP), "TCP"),
    Case(
        "IPv6 first fragment, UDP in the padding",
        ends_at6(FRAGMENT_HEADER, 8, fragment_header(UDP, udp(5, 6), more=True)),
        flow6(UDP, flags=FRAGMENT),
        "UDP",
    ),
    Case(
        "IPv6 that says it is a jumbogram and is not one",
        ends_at6(HOP_BY_HOP, 0, bytes([TCP, 0, 0xC2, 4]) + (len(WEB) + 8).to_bytes(4, "big") + WEB),
        flow6(HOP_BY_HOP),
        "Other",
    ),
]

ROCE_CASES = [
    Case(
        "RoCE v2 in the padding", ends_at(UDP, UDP_HEADER, roce(bth(4, QPN, bytes(32)))), flow4(UDP, 49152, 4791), "UDP"
    ),
    Case(
        "RoCE v2, a byte of it in the padding",
        ends_at(UDP, UDP_HEADER + BASE_TRANSPORT_HEADER - 1, roce(bth(4, QPN))),
        flow4(UDP, 49152, 4791),
        "UDP",
    ),
    Case(
        "RoCE v1 in the padding", ethernet(ROCE_V1, ipv6(27, bth(4, QPN, bytes(32)), length=0)), V1_FLOW, "RoCE_v1_IBoE"
    ),
    Case(
        "RoCE v1, padded",
        ethernet(ROCE_V1, grh(bth(4, QPN))).ljust(80, b"\xff"),
        pair(V1_FLOW, 4, flags=IS_V1),
        "RoCE_v1_IBoE",
    ),
]

LENGTH_GROUPS = {
    "no transport header": NO_TRANSPORT_CASES,
    "part of a transport header": PART_CASES,
    "extension headers in the padding": EXTENSION_CASES,
    "RoCE in the padding": ROCE_CASES,
}
