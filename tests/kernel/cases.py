"""Frames and the flows they belong to, each written down by hand."""

from __future__ import annotations

from tests.kernel.case import WEB, WEB_FLOW, WEB_FLOW6, Case, flow4, flow6, mapped, only, over_ipv4, over_ipv6
from tests.kernel.cases_ipv6 import EXTENSION_GROUPS
from tests.kernel.cases_length import LENGTH_GROUPS
from tests.kernel.cases_roce import ROCE_GROUPS, pair
from tests.kernel.cases_vlan import VLAN_CASES
from tests.support.frames import (
    ACK,
    AH,
    ARP,
    CWR,
    DESTINATION,
    DST,
    ECE,
    ESP,
    FIN,
    GRE,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IGMP,
    IPV4,
    IPV6,
    LLC,
    LLDP,
    PSH,
    RARP,
    ROUTING,
    RST,
    SCTP,
    SRC,
    SYN,
    TCP,
    UDP,
    URG,
    VLAN,
    ah,
    arp,
    bth,
    esp,
    ethernet,
    extension,
    gre,
    icmp,
    igmp,
    ipv4,
    ipv6,
    lldp,
    roce,
    sctp,
    tcp,
    udp,
    vlan,
)
from xtrace.model.flow import FRAGMENT, LATER_FRAGMENT

FLAG_NAMES = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")

TCP_CASES = [
    *(
        Case(f"TCP {name}", over_ipv4(TCP, tcp(1024, 80, 1 << bit)), flow4(TCP, 1024, 80), "TCP", 1 << bit)
        for bit, name in enumerate(FLAG_NAMES)
    ),
    Case("TCP without flags", over_ipv4(TCP, tcp(1024, 80, 0)), flow4(TCP, 1024, 80), "TCP"),
    Case("TCP all flags", over_ipv4(TCP, tcp(1024, 80, 0xFF)), flow4(TCP, 1024, 80), "TCP", 0xFF),
    Case(
        "TCP options",
        over_ipv4(TCP, tcp(1024, 80, SYN | ECE | CWR, options=bytes.fromhex("020405b4 01010402"))),
        flow4(TCP, 1024, 80),
        "TCP",
        SYN | ECE | CWR,
    ),
    Case("TCP port 0 to 0", over_ipv4(TCP, tcp(0, 0, RST)), flow4(TCP), "TCP", RST),
    Case("TCP highest ports", over_ipv4(TCP, tcp(65535, 65535)), flow4(TCP, 65535, 65535), "TCP", ACK),
    Case("TCP port 1 to 256", over_ipv4(TCP, tcp(1, 256)), flow4(TCP, 1, 256), "TCP", ACK),
    Case("TCP payload", over_ipv4(TCP, WEB), WEB_FLOW, "TCP", ACK),
    Case("TCP over IPv6", over_ipv6(TCP, tcp(22, 50000, PSH | URG)), flow6(TCP, 22, 50000), "TCP", PSH | URG),
]

UDP_CASES = [
    Case("UDP empty, shorter than a TCP header", over_ipv4(UDP, udp(53, 5353)), flow4(UDP, 53, 5353), "UDP"),
    Case("UDP one byte", over_ipv4(UDP, udp(53, 5353, b"x")), flow4(UDP, 53, 5353), "UDP"),
    Case("UDP highest ports", over_ipv4(UDP, udp(65535, 0)), flow4(UDP, 65535, 0), "UDP"),
    Case("UDP over IPv6", over_ipv6(UDP, udp(53, 40000, bytes(100))), flow6(UDP, 53, 40000), "UDP"),
    Case("UDP padded to 60 bytes", over_ipv4(UDP, udp(67, 68)).ljust(60, b"\0"), flow4(UDP, 67, 68), "UDP"),
]

ICMP_CASES = [
    Case("ICMP echo", over_ipv4(ICMP, icmp(8, 0, bytes(56))), flow4(ICMP, 8, 0), "ICMP"),
    Case("ICMP echo reply", over_ipv4(ICMP, icmp(0, 0)), flow4(ICMP), "ICMP"),
    Case("ICMP fragmentation needed", over_ipv4(ICMP, icmp(3, 4, ipv4(TCP, WEB))), flow4(ICMP, 3, 4), "ICMP"),
    Case("ICMP highest type and code", over_ipv4(ICMP, icmp(255, 255)), flow4(ICMP, 255, 255), "ICMP"),
    Case("ICMPv6 echo", over_ipv6(ICMPV6, icmp(128, 0)), flow6(ICMPV6, 128, 0), "ICMP"),
    Case("ICMPv6 port unreachable", over_ipv6(ICMPV6, icmp(1, 4)), flow6(ICMPV6, 1, 4), "ICMP"),
    Case("ICMPv6 highest type and code", over_ipv6(ICMPV6, icmp(255, 255)), flow6(ICMPV6, 255, 255), "ICMP"),
    Case("ICMPv6 over IPv4", over_ipv4(ICMPV6, icmp(135, 0)), flow4(ICMPV6, 135, 0), "ICMP"),
    Case("ICMP over IPv6", over_ipv6(ICMP, icmp(8, 0)), flow6(ICMP, 8, 0), "ICMP"),
]

SCTP_CASES = [
    Case("SCTP", over_ipv4(SCTP, sctp(36412, 36412)), flow4(SCTP, 36412, 36412), "SCTP"),
    Case("SCTP over IPv6", over_ipv6(SCTP, sctp(2905, 1)), flow6(SCTP, 2905, 1), "SCTP"),
]


LATER = FRAGMENT | LATER_FRAGMENT


def fragment(protocol: int, payload: bytes, *, offset: int, more: bool) -> bytes:
    return ethernet(IPV4, ipv4(protocol, payload, offset=offset, more=more))


FRAGMENT_CASES = [
    Case(
        "first fragment",
        fragment(TCP, tcp(1024, 80, PSH), offset=0, more=True),
        flow4(TCP, 1024, 80, flags=FRAGMENT),
        "TCP",
        PSH,
    ),
    Case("middle fragment", fragment(UDP, bytes(64), offset=185, more=True), flow4(UDP, flags=LATER), "UDP"),
    Case("last fragment", fragment(UDP, bytes(7), offset=8191, more=False), flow4(UDP, flags=LATER), "UDP"),
    Case(
        "later fragment with options that are cut",
        ethernet(IPV4, ipv4(UDP, bytes(8), offset=1, ihl=15)),
        flow4(UDP, flags=LATER),
        "UDP",
    ),
    Case("first fragment of GRE", fragment(GRE, gre(IPV4, WEB), offset=0, more=True), flow4(GRE, flags=2), "Other"),
    Case("later SCTP fragment", fragment(SCTP, bytes(64), offset=4, more=True), flow4(SCTP, flags=LATER), "SCTP"),
    Case(
        "fragment at offset 1 that looks like TCP",
        fragment(TCP, tcp(1024, 80, SYN), offset=1, more=False),
        flow4(TCP, flags=LATER),
        "TCP",
    ),
    Case(
        "first ICMP fragment", fragment(ICMP, icmp(8, 0), offset=0, more=True), flow4(ICMP, 8, flags=FRAGMENT), "ICMP"
    ),
    Case(
        "fragment of an unknown protocol",
        fragment(253, bytes(8), offset=2, more=True),
        flow4(253, flags=LATER),
        "Other",
    ),
    Case("may not be fragmented", ethernet(IPV4, ipv4(TCP, WEB, dont=True)), WEB_FLOW, "TCP", ACK),
]

NO_OPERATION = b"\x01"

IPV4_CASES = [
    *(
        Case(
            f"IPv4 header of {4 * ihl} bytes",
            ethernet(IPV4, ipv4(TCP, WEB, options=NO_OPERATION * 4 * (ihl - 5))),
            WEB_FLOW,
            "TCP",
            ACK,
        )
        for ihl in range(5, 16)
    ),
    *(
        Case(
            f"IPv4 that says its header has {4 * ihl} bytes",
            ethernet(IPV4, ipv4(TCP, WEB, ihl=ihl)),
            only(0x0800),
            "Other",
        )
        for ihl in range(5)
    ),
    Case("IPv4 that ends inside its options", ethernet(IPV4, ipv4(TCP, WEB, ihl=15)), flow4(TCP), "TCP"),
    *(
        Case(
            f"IPv4 of version {version}",
            ethernet(IPV4, ipv4(TCP, WEB, version=version)),
            only(0x0800),
            "Other",
        )
        for version in (0, 5, 6, 15)
    ),
    Case(
        "IPv4 to 0.0.0.0",
        ethernet(IPV4, ipv4(UDP, udp(68, 67), src="0.0.0.0", dst="0.0.0.0")),
        flow4(UDP, 68, 67, src="0.0.0.0", dst="0.0.0.0"),
        "UDP",
    ),
    Case(
        "IPv4 broadcast",
        ethernet(IPV4, ipv4(UDP, udp(68, 67), src="0.0.0.0", dst="255.255.255.255")),
        flow4(UDP, 68, 67, src="0.0.0.0", dst="255.255.255.255"),
        "UDP",
    ),
    Case("IPv4 that ends with its header", over_ipv4(TCP), flow4(TCP), "TCP"),
    Case("IPv4 protocol 0", over_ipv4(0, bytes(8)), flow4(0), "Other"),
    Case("IPv4 protocol 254, ports inside", over_ipv4(254, tcp(1, 2)), flow4(254), "Other"),
    Case("IPv4 protocol 255", over_ipv4(255, bytes(8)), flow4(255), "Other"),
    Case(
        "IGMP",
        ethernet(IPV4, ipv4(IGMP, igmp("224.0.0.251"), dst="224.0.0.251")),
        flow4(IGMP, dst="224.0.0.251"),
        "Other",
    ),
    Case("GRE with TCP inside", over_ipv4(GRE, gre(IPV4, ipv4(TCP, WEB, src="1.1.1.1"))), flow4(GRE), "Other"),
    Case("IPv4 in IPv4", over_ipv4(4, ipv4(TCP, WEB, src="1.1.1.1")), flow4(4), "Other"),
    Case("ESP", over_ipv4(ESP, esp(bytes(range(64)))), flow4(ESP), "Other"),
]

AH_CASES = [
    Case("IPv4 AH, TCP", over_ipv4(AH, ah(TCP, WEB)), WEB_FLOW, "TCP", ACK),
    Case("IPv4 AH, ICMP", over_ipv4(AH, ah(ICMP, icmp(8, 0))), flow4(ICMP, 8), "ICMP"),
    Case("IPv4 AH, ESP", over_ipv4(AH, ah(ESP, esp(bytes(16)))), flow4(ESP), "Other"),
    Case("IPv4 AH, RoCE v2", over_ipv4(AH, ah(UDP, roce(bth(4, 17)))), pair(flow4(UDP), 4, 17), "RoCE_v2"),
    *(
        Case(
            f"IPv4 AH with {4 * words} bytes to check",
            over_ipv4(AH, ah(UDP, udp(5, 6), words=words)),
            flow4(UDP, 5, 6),
            "UDP",
        )
        for words in (0, 1, 2, 4, 8)
    ),
    Case("IPv4 options, AH", ethernet(IPV4, ipv4(AH, ah(TCP, WEB), options=b"\x01" * 8)), WEB_FLOW, "TCP", ACK),
    Case("IPv4 AH in AH, which is not walked", over_ipv4(AH, ah(AH, ah(TCP, WEB))), flow4(AH), "Other"),
    Case(
        "IPv4 AH, IPv6's other extension headers",
        over_ipv4(AH, ah(ROUTING, extension(TCP, WEB))),
        flow4(ROUTING),
        "Other",
    ),
    Case("IPv4, IPv6's extension header", over_ipv4(DESTINATION, extension(TCP, WEB)), flow4(DESTINATION), "Other"),
    Case("IPv4 AH longer than the packet", over_ipv4(AH, bytes([UDP, 20]) + bytes(6) + udp(5, 6)), flow4(UDP), "UDP"),
    Case("IPv4 AH cut at 7 bytes", over_ipv4(AH, ah(UDP, udp(5, 6)))[:41], flow4(AH), "Other"),
    Case("IPv4 AH, UDP in the padding", ethernet(IPV4, ipv4(AH, ah(UDP, udp(5, 6)), total=20 + 24)), flow4(UDP), "UDP"),
    Case("IPv4 AH in the padding", ethernet(IPV4, ipv4(AH, ah(UDP, udp(5, 6)), total=20)), flow4(AH), "Other"),
    Case(
        "IPv4 AH, first fragment",
        fragment(AH, ah(TCP, WEB), offset=0, more=True),
        flow4(TCP, 40000, 80, flags=FRAGMENT),
        "TCP",
        ACK,
    ),
    Case("IPv4 AH, later fragment", fragment(AH, ah(TCP, WEB), offset=1, more=True), flow4(AH, flags=LATER), "Other"),
]

IPV6_CASES = [
    Case("IPv6 with an unknown next header", over_ipv6(253, tcp(1, 2)), flow6(253), "Other"),
    Case("IPv6 without next header", over_ipv6(59), flow6(59), "Other"),
    Case(
        "IPv6 from ::",
        ethernet(IPV6, ipv6(ICMPV6, icmp(135, 0, bytes(16)), src="::", dst="ff02::1:ff00:2")),
        flow6(ICMPV6, 135, 0, src="::", dst="ff02::1:ff00:2"),
        "ICMP",
    ),
    Case(
        "IPv6 to an IPv4-mapped address",
        ethernet(IPV6, ipv6(UDP, udp(1, 2), src="::ffff:10.0.0.1", dst="::ffff:10.0.0.2")),
        flow6(UDP, 1, 2, src="::ffff:10.0.0.1", dst="::ffff:10.0.0.2"),
        "UDP",
    ),
    Case("IPv6 that ends with its header", over_ipv6(UDP), flow6(UDP), "UDP"),
    *(
        Case(
            f"IPv6 of version {version}",
            ethernet(IPV6, ipv6(TCP, WEB, version=version)),
            only(0x86DD),
            "Other",
        )
        for version in (0, 4, 7, 15)
    ),
]

ARP_FLOW = only(ARP)._replace(src=mapped(SRC), dst=mapped(DST))

ARP_CASES = [
    Case("ARP request", ethernet(ARP, arp()), ARP_FLOW, "ARP"),
    Case("ARP reply, padded", ethernet(ARP, arp(2)).ljust(60, b"\0"), ARP_FLOW, "ARP"),
    Case(
        "ARP probe",
        ethernet(ARP, arp(src="0.0.0.0", dst="192.0.2.255")),
        only(ARP)._replace(src=mapped("0.0.0.0"), dst=mapped("192.0.2.255")),
        "ARP",
    ),
    Case("ARP for another hardware type", ethernet(ARP, arp(hardware=32)), only(ARP), "ARP"),
    Case("ARP for another protocol", ethernet(ARP, arp(protocol=IPV6)), only(ARP), "ARP"),
    Case("ARP with hardware addresses of 8 bytes", ethernet(ARP, arp(lengths=(8, 4))), only(ARP), "ARP"),
    Case("ARP with protocol addresses of 16 bytes", ethernet(ARP, arp(lengths=(6, 16))), only(ARP), "ARP"),
    Case("ARP without addresses", ethernet(ARP, arp(lengths=(0, 0))), only(ARP), "ARP"),
    Case("ARP that lacks its last byte", ethernet(ARP, arp())[:-1], only(ARP), "ARP"),
    Case("RARP", ethernet(RARP, arp(3)), only(RARP), "Other"),
]

OTHER_CASES = [
    Case("LLDP", ethernet(LLDP, lldp()), only(0x88CC), "Other"),
    Case("802.3 length 0", ethernet(0, bytes(46)), only(LLC), "Other"),
    Case("802.3 longest length", ethernet(1500, bytes(1500)), only(LLC), "Other"),
    Case("neither length nor ethertype", ethernet(0x5FF, bytes(46)), only(LLC), "Other"),
    Case("lowest ethertype", ethernet(0x600, bytes(46)), only(0x600), "Other"),
    Case("802.1Q, 802.3 length", ethernet(VLAN, vlan(42, 38, bytes(42))), only(LLC, vlan_id=42), "Other"),
    Case("ethertype 0xffff", ethernet(0xFFFF, bytes(46)), only(0xFFFF), "Other"),
    Case("802.3 length field", ethernet(38, b"\x42\x42\x03".ljust(46, b"\0")), only(LLC), "Other"),
    Case("ethertype in the wrong byte order", ethernet(0x0008, ipv4(TCP, WEB)), only(LLC), "Other"),
]

BARE_CASES = [
    Case("14 bytes, IPv4", ethernet(IPV4), only(0x0800), "Other"),
    Case("14 bytes, IPv6", ethernet(IPV6), only(0x86DD), "Other"),
    Case("14 bytes, ARP", ethernet(ARP), only(0x0806), "ARP"),
    Case("14 bytes of zeroes", bytes(14), only(LLC), "Other"),
]

WHOLE_FRAME = ethernet(IPV4, ipv4(TCP, tcp(6666, 7777, SYN | FIN), src="6.6.6.6", dst="7.7.7.7"))
"""To hide in another's payload."""

LOOKALIKE_CASES = [
    Case("unknown ethertype, IPv4 inside", ethernet(0x88B5, WHOLE_FRAME[14:]), only(0x88B5), "Other"),
    Case("unknown ethertype, a frame inside", ethernet(0x88B5, WHOLE_FRAME), only(0x88B5), "Other"),
    Case("IPv4 that is IPv6", ethernet(IPV4, ipv6(TCP, WEB)), only(0x0800), "Other"),
    Case("IPv6 that is IPv4", ethernet(IPV6, ipv4(TCP, WEB)), only(0x86DD), "Other"),
    Case("UDP with a frame inside", over_ipv4(UDP, udp(9, 10, WHOLE_FRAME)), flow4(UDP, 9, 10), "UDP"),
    Case(
        "fragment with a frame inside", fragment(UDP, WHOLE_FRAME, offset=3, more=True), flow4(UDP, flags=LATER), "UDP"
    ),
    Case(
        "IPv4 options that look like TCP",
        ethernet(IPV4, ipv4(TCP, WEB, options=tcp(6666, 7777, SYN))),
        WEB_FLOW,
        "TCP",
        ACK,
    ),
]

LONG_CASES = [
    Case("1514 bytes", over_ipv4(TCP, tcp(5, 6, ACK, bytes(1460))), flow4(TCP, 5, 6), "TCP", ACK),
    Case("jumbo", over_ipv6(TCP, tcp(5, 6, ACK, bytes(9014 - 74))), flow6(TCP, 5, 6), "TCP", ACK),
]

GROUPS = {
    "TCP": TCP_CASES,
    "UDP": UDP_CASES,
    "ICMP": ICMP_CASES,
    "SCTP": SCTP_CASES,
    "IPv4 fragments": FRAGMENT_CASES,
    "IPv4": IPV4_CASES,
    "IPv4 AH": AH_CASES,
    "IPv6": IPV6_CASES,
    **EXTENSION_GROUPS,
    "VLAN": VLAN_CASES,
    **ROCE_GROUPS,
    "ARP": ARP_CASES,
    "other": OTHER_CASES,
    "bare": BARE_CASES,
    "lookalikes": LOOKALIKE_CASES,
    "long": LONG_CASES,
    **LENGTH_GROUPS,
}

CASES = [case for group in GROUPS.values() for case in group]

SHORT_CASES = [case for case in CASES if len(case.frame) <= 200]

RAW_CASES = [
    Case("IPv4", ipv4(TCP, WEB), WEB_FLOW, "TCP", ACK),
    Case("IPv4 later fragment", ipv4(UDP, bytes(20), offset=3), flow4(UDP, flags=LATER), "UDP"),
    Case("IPv4 header cut in its options", ipv4(UDP, udp(5, 6), ihl=15), flow4(UDP), "UDP"),
    Case("IPv4 that lacks its last byte", ipv4(TCP)[:-1], only(IPV4), "Other"),
    Case("IPv6", ipv6(TCP, WEB), WEB_FLOW6, "TCP", ACK),
    Case("IPv6 hop-by-hop", ipv6(HOP_BY_HOP, extension(UDP, udp(5, 6))), flow6(UDP, 5, 6), "UDP"),
    Case("IPv6 that lacks its last byte", ipv6(TCP)[:-1], only(IPV6), "Other"),
    Case("RoCE v2", ipv4(UDP, roce(bth(4, 17))), pair(flow4(UDP), 4, 17), "RoCE_v2"),
    Case("RoCE v2 over IPv6", ipv6(UDP, roce(bth(4, 17))), pair(flow6(UDP), 4, 17), "RoCE_v2"),
    Case("zeroes", bytes(64), only(0), "Other"),
    Case("ones", b"\xff" * 64, only(0), "Other"),
    Case("IP of version 5", ipv4(TCP, WEB, version=5), only(0), "Other"),
    Case("an Ethernet frame", WHOLE_FRAME, only(0), "Other"),
]
"""Packets of tun at XDP: the version says whether they are IPv4 or IPv6, or neither."""

LOOKS_LIKE_IPV4 = bytes.fromhex("45e7b140")
"""An MPLS label, 286331, bottom of stack, TTL 64"""

NETWORK_CASES = [
    *(
        Case(case.name, case.frame, case.key, case.traffic_type, case.tcp_flags)
        for name in ("TCP", "UDP", "ICMP", "IPv4", "IPv6", "IPv4 fragments", "IPv6 extension headers")
        for case in GROUPS[name]
    ),
    Case("IPv4 from a MAC address that begins with 46", b"\x46" + over_ipv4(TCP, WEB)[1:], WEB_FLOW, "TCP", ACK),
    Case("IPv6 from a MAC address that begins with 45", b"\x45" + over_ipv6(TCP, WEB)[1:], WEB_FLOW6, "TCP", ACK),
    Case("MPLS that looks like IPv4", ethernet(0x8847, LOOKS_LIKE_IPV4 + ipv4(TCP, WEB)), only(0x8847), "Other"),
    Case("unknown, IPv4 inside", ethernet(0x88B5, ipv4(TCP, WEB)), only(0x88B5), "Other"),
    Case("a tag", ethernet(VLAN, vlan(42, IPV4, ipv4(TCP, WEB))), only(VLAN), "Other"),
    Case("802.2", ethernet(38, bytes(38)), only(LLC), "Other"),
]
"""Packets of interfaces without a link layer at tc, behind what the kernel has left before their network headers."""

UNKNOWN_CASES = [Case(case.name, case.frame, only(0), "Other") for case in (*RAW_CASES, *NETWORK_CASES)]
"""The same packets at XDP, where nobody says what they are."""


def ipoib(ethertype: int, payload: bytes, peer: bytes = bytes(20)) -> bytes:
    """An IPoIB frame as the kernel has it: the peer's hardware address (zeroes on receive), then RFC 4391's header."""
    return peer + ethertype.to_bytes(2, "big") + bytes(2) + payload


IPOIB_CASES = [
    Case("IPv4", ipoib(IPV4, ipv4(TCP, WEB)), WEB_FLOW, "TCP", ACK),
    Case("IPv4 that leaves", ipoib(IPV4, ipv4(UDP, udp(5, 6)), b"\x80" * 20), flow4(UDP, 5, 6), "UDP"),
    Case("IPv6", ipoib(IPV6, ipv6(TCP, WEB)), WEB_FLOW6, "TCP", ACK),
    Case("IPv6 hop-by-hop", ipoib(IPV6, ipv6(HOP_BY_HOP, extension(UDP, udp(5, 6)))), flow6(UDP, 5, 6), "UDP"),
    Case("ARP of longer hardware addresses", ipoib(ARP, bytes.fromhex("002008001404") + bytes(50)), only(ARP), "ARP"),
    Case("unknown", ipoib(0x1234, bytes(40)), only(0x1234), "Other"),
]
