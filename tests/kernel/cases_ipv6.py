"""IPv6 extension headers, alone and chained, and IPv6 fragments."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kernel.case import WEB, WEB_FLOW6, Case, flow6, over_ipv6
from tests.support.frames import (
    ACK,
    AH,
    DESTINATION,
    ESP,
    FRAGMENT_HEADER,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    NO_NEXT_HEADER,
    ROUTING,
    SCTP,
    TCP,
    UDP,
    ah,
    esp,
    extension,
    fragment_header,
    icmp,
    sctp,
    udp,
)
from xtrace.model.flow import FRAGMENT, LATER_FRAGMENT

LATER = FRAGMENT | LATER_FRAGMENT
OPTIONS = {"hop-by-hop": HOP_BY_HOP, "routing": ROUTING, "destination": DESTINATION}
REACH = 2047 - 14 - 40
"""Bytes of extension headers behind which a transport header is still looked for."""


def chain(headers: Sequence[int], protocol: int, payload: bytes) -> bytes:
    """A frame with these extension headers, of 8 bytes each but AH, in this order."""
    following = protocol
    for header in reversed(headers):
        if header == AH:
            payload = ah(following, payload)
        elif header == FRAGMENT_HEADER:
            payload = fragment_header(following, payload)
        else:
            payload = extension(following, payload)
        following = header
    return over_ipv6(following, payload)


def far(length: int) -> bytes:
    """A frame with `length` bytes of extension headers, a multiple of 8, before TCP."""
    first = min(length - 8, 2048)
    inner = extension(TCP, WEB, length=(length - first) // 8 - 1)
    return over_ipv6(HOP_BY_HOP, extension(DESTINATION, inner, length=first // 8 - 1))


SINGLE_CASES = [
    *(Case(f"IPv6 {name}", chain([header], TCP, WEB), WEB_FLOW6, "TCP", ACK) for name, header in OPTIONS.items()),
    *(
        Case(
            f"IPv6 {name} of 2048 bytes",
            over_ipv6(header, extension(NO_NEXT_HEADER, b"", length=255)),
            flow6(59),
            "Other",
        )
        for name, header in OPTIONS.items()
    ),
    Case("IPv6 hop-by-hop of 16 bytes", over_ipv6(HOP_BY_HOP, extension(TCP, WEB, length=1)), WEB_FLOW6, "TCP", ACK),
    Case("IPv6 AH", chain([AH], TCP, WEB), WEB_FLOW6, "TCP", ACK),
    # its length counts 4 bytes where the others count 8
    *(
        Case(
            f"IPv6 AH with {4 * words} bytes to check",
            over_ipv6(AH, ah(UDP, udp(5, 6), words=words)),
            flow6(UDP, 5, 6),
            "UDP",
        )
        for words in (0, 1, 2, 4, 8)
    ),
    Case(
        "IPv6 AH that says it has 8 bytes",
        over_ipv6(AH, bytes([SCTP, 0]) + bytes(6) + sctp(7, 8)),
        flow6(SCTP, 7, 8),
        "SCTP",
    ),
    Case("IPv6 ESP", over_ipv6(ESP, esp(bytes(range(64)))), flow6(ESP), "Other"),
    Case("IPv6 without next header, TCP behind", over_ipv6(NO_NEXT_HEADER, WEB), flow6(NO_NEXT_HEADER), "Other"),
    Case("IPv6 mobility header, which is not walked", over_ipv6(135, extension(TCP, WEB)), flow6(135), "Other"),
]

CHAIN_CASES = [
    Case("IPv6 hop-by-hop, ICMPv6", chain([HOP_BY_HOP], ICMPV6, icmp(143, 0)), flow6(ICMPV6, 143), "ICMP"),
    Case("IPv6 hop-by-hop, ICMP", chain([HOP_BY_HOP], ICMP, icmp(8, 0)), flow6(ICMP, 8), "ICMP"),
    Case("IPv6 hop-by-hop, ESP", chain([HOP_BY_HOP], ESP, esp(bytes(16))), flow6(ESP), "Other"),
    Case("IPv6 destination, nothing", chain([DESTINATION], NO_NEXT_HEADER, b""), flow6(NO_NEXT_HEADER), "Other"),
    Case(
        "IPv6 with all extension headers in the order of RFC 8200",
        chain([HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT_HEADER, AH, DESTINATION], TCP, WEB),
        WEB_FLOW6,
        "TCP",
        ACK,
    ),
    Case("IPv6 with the same extension header six times", chain([DESTINATION] * 6, TCP, WEB), WEB_FLOW6, "TCP", ACK),
    Case("IPv6 with seven extension headers", chain([DESTINATION] * 7, TCP, WEB), flow6(DESTINATION), "Other"),
    Case("IPv6 with seven, the last AH", chain([ROUTING] * 6 + [AH], UDP, udp(5, 6)), flow6(AH), "Other"),
    Case(
        "IPv6 with hop-by-hop as seventh",
        chain([DESTINATION] * 6 + [HOP_BY_HOP], TCP, WEB),
        flow6(HOP_BY_HOP),
        "Other",
    ),
    Case("IPv6 with TCP as far in as it is looked for", far(REACH // 8 * 8), WEB_FLOW6, "TCP", ACK),
    Case("IPv6 with TCP further in than it is looked for", far(REACH // 8 * 8 + 8), flow6(TCP), "TCP"),
]

CUT_CASES = [
    Case("IPv6 that ends before its extension header", over_ipv6(ROUTING), flow6(ROUTING), "Other"),
    Case("IPv6 extension header cut at 7 bytes", chain([ROUTING], TCP, b"")[:-1], flow6(ROUTING), "Other"),
    Case("IPv6 that ends with its extension header", chain([ROUTING], TCP, b""), flow6(TCP), "TCP"),
    Case(
        "IPv6 extension header longer than the frame",
        over_ipv6(DESTINATION, bytes([TCP, 9]) + bytes(6) + WEB),
        flow6(TCP),
        "TCP",
    ),
    Case("IPv6 AH longer than the frame", over_ipv6(AH, bytes([UDP, 20]) + bytes(6) + udp(5, 6)), flow6(UDP), "UDP"),
    Case(
        "IPv6 chain whose second header is cut",
        chain([HOP_BY_HOP, ROUTING], TCP, b"")[:-3],
        flow6(ROUTING),
        "Other",
    ),
    Case(
        "IPv6 fragment header cut at 7 bytes", chain([FRAGMENT_HEADER], UDP, b"")[:-1], flow6(FRAGMENT_HEADER), "Other"
    ),
]


def fragment6(protocol: int, payload: bytes, *, offset: int = 0, more: bool = False) -> bytes:
    return over_ipv6(FRAGMENT_HEADER, fragment_header(protocol, payload, offset=offset, more=more))


FRAGMENT_CASES = [
    Case("IPv6 atomic fragment", fragment6(TCP, WEB), WEB_FLOW6, "TCP", ACK),
    Case("IPv6 first fragment", fragment6(TCP, WEB, more=True), WEB_FLOW6._replace(flags=FRAGMENT), "TCP", ACK),
    Case("IPv6 first fragment, UDP", fragment6(UDP, udp(5, 6), more=True), flow6(UDP, 5, 6, flags=FRAGMENT), "UDP"),
    Case("IPv6 middle fragment", fragment6(UDP, bytes(64), offset=181, more=True), flow6(UDP, flags=LATER), "UDP"),
    Case("IPv6 last fragment", fragment6(UDP, bytes(7), offset=8191), flow6(UDP, flags=LATER), "UDP"),
    Case(
        "IPv6 fragment at offset 1 that looks like TCP", fragment6(TCP, WEB, offset=1), flow6(TCP, flags=LATER), "TCP"
    ),
    Case(
        "IPv6 later fragment of what begins with an extension header",
        fragment6(DESTINATION, extension(TCP, WEB), offset=1),
        flow6(DESTINATION, flags=LATER),
        "Other",
    ),
    Case(
        "IPv6 first fragment with a destination header inside",
        fragment6(DESTINATION, extension(TCP, WEB), more=True),
        WEB_FLOW6._replace(flags=FRAGMENT),
        "TCP",
        ACK,
    ),
    Case(
        "IPv6 fragment of a fragment",
        fragment6(FRAGMENT_HEADER, fragment_header(TCP, WEB, offset=2), more=True),
        flow6(TCP, flags=LATER),
        "TCP",
    ),
    Case(
        "IPv6 hop-by-hop, last fragment",
        over_ipv6(HOP_BY_HOP, extension(FRAGMENT_HEADER, fragment_header(SCTP, bytes(9), offset=3))),
        flow6(SCTP, flags=LATER),
        "SCTP",
    ),
    Case(
        "IPv6 fragment with the reserved bits set",
        over_ipv6(FRAGMENT_HEADER, bytes([UDP, 0xFF, 0, 6]) + bytes(4) + udp(5, 6)),
        flow6(UDP, 5, 6),
        "UDP",
    ),
]

EXTENSION_GROUPS = {
    "IPv6 extension headers": SINGLE_CASES,
    "IPv6 chains": CHAIN_CASES,
    "IPv6 cut": CUT_CASES,
    "IPv6 fragments": FRAGMENT_CASES,
}
