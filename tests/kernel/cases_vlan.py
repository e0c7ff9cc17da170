"""Tagged frames: 802.1Q and 802.1ad."""

from __future__ import annotations

from tests.kernel.case import WEB, WEB_FLOW, WEB_FLOW6, Case, flow4, flow6, mapped, only
from tests.support.frames import (
    ACK,
    ARP,
    DST,
    HOP_BY_HOP,
    ICMPV6,
    IPV4,
    IPV6,
    LLDP,
    SERVICE_VLAN,
    SRC,
    TCP,
    UDP,
    VLAN,
    arp,
    ethernet,
    extension,
    icmp,
    ipv4,
    ipv6,
    lldp,
    udp,
    vlan,
)
from xtrace.model.flow import FRAGMENT, LATER_FRAGMENT

WEB4, WEB6 = ipv4(TCP, WEB), ipv6(TCP, WEB)
PRIORITY_TAG = 0


def tagged(vlan_id: int, ethertype: int, payload: bytes, *, priority: int = 0, outer: int = VLAN) -> bytes:
    return ethernet(outer, vlan(vlan_id, ethertype, payload, priority=priority))


def stacked(service_id: int, vlan_id: int, ethertype: int, payload: bytes, *, outer: int = SERVICE_VLAN) -> bytes:
    return ethernet(outer, vlan(service_id, VLAN, vlan(vlan_id, ethertype, payload)))


THREE_TAGS = tagged(1, VLAN, vlan(2, VLAN, vlan(3, IPV4, WEB4)))
LATER = FRAGMENT | LATER_FRAGMENT

VLAN_CASES = [
    Case("802.1Q", tagged(42, IPV4, WEB4), WEB_FLOW._replace(vlan_id=42), "TCP", ACK),
    Case("802.1Q with a priority", tagged(42, IPV4, WEB4, priority=5), WEB_FLOW._replace(vlan_id=42), "TCP", ACK),
    Case("802.1Q, drop eligible", tagged(0x1000 | 42, IPV4, WEB4), WEB_FLOW._replace(vlan_id=42), "TCP", ACK),
    Case("802.1Q, highest id", tagged(4095, IPV4, WEB4, priority=7), WEB_FLOW._replace(vlan_id=4095), "TCP", ACK),
    Case("priority tag", tagged(PRIORITY_TAG, IPV4, WEB4, priority=3), WEB_FLOW, "TCP", ACK),
    Case("802.1Q, IPv6", tagged(42, IPV6, WEB6), WEB_FLOW6._replace(vlan_id=42), "TCP", ACK),
    Case("802.1Q, ICMPv6", tagged(7, IPV6, ipv6(ICMPV6, icmp(128, 0))), flow6(ICMPV6, 128, vlan_id=7), "ICMP"),
    Case(
        "802.1Q, IPv6 with an extension header",
        tagged(42, IPV6, ipv6(HOP_BY_HOP, extension(UDP, udp(5, 6)))),
        flow6(UDP, 5, 6, vlan_id=42),
        "UDP",
    ),
    Case(
        "802.1Q, later fragment",
        tagged(42, IPV4, ipv4(UDP, bytes(16), offset=185)),
        flow4(UDP, flags=LATER, vlan_id=42),
        "UDP",
    ),
    Case(
        "802.1Q, ARP",
        tagged(42, ARP, arp()),
        only(ARP, vlan_id=42)._replace(src=mapped(SRC), dst=mapped(DST)),
        "ARP",
    ),
    Case("802.1Q, LLDP", tagged(42, LLDP, lldp()), only(LLDP, vlan_id=42), "Other"),
    Case("802.1ad alone", tagged(9, IPV4, WEB4, outer=SERVICE_VLAN), WEB_FLOW._replace(vlan_id=9), "TCP", ACK),
    Case("802.1ad with 802.1Q inside", stacked(100, 42, IPV4, WEB4), WEB_FLOW._replace(vlan_id=100), "TCP", ACK),
    Case("802.1ad with 802.1Q inside, IPv6", stacked(100, 42, IPV6, WEB6), WEB_FLOW6._replace(vlan_id=100), "TCP", ACK),
    Case("802.1Q in 802.1Q", stacked(3, 42, IPV4, WEB4, outer=VLAN), WEB_FLOW._replace(vlan_id=3), "TCP", ACK),
    Case(
        "802.1ad in 802.1Q",
        tagged(3, SERVICE_VLAN, vlan(4, IPV4, WEB4)),
        WEB_FLOW._replace(vlan_id=3),
        "TCP",
        ACK,
    ),
    Case("802.1Q in a priority tag", stacked(PRIORITY_TAG, 42, IPV4, WEB4), WEB_FLOW, "TCP", ACK),
    Case("three tags", THREE_TAGS, only(VLAN, vlan_id=1), "Other"),
    Case("802.1Q that ends with its Ethernet header", ethernet(VLAN), only(VLAN), "Other"),
    Case("802.1Q that lacks its last byte", ethernet(VLAN, vlan(42, IPV4, b""))[:-1], only(VLAN), "Other"),
    Case("802.1Q that ends with its tag", tagged(42, IPV4, b""), only(IPV4, vlan_id=42), "Other"),
    Case("inner tag that lacks its last byte", stacked(100, 42, IPV4, b"")[:-1], only(VLAN, vlan_id=100), "Other"),
    Case("tag behind an unknown ethertype", ethernet(0x88B5, vlan(42, IPV4, WEB4)), only(0x88B5), "Other"),
]
