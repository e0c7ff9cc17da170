"""What a frame's flow is, read a second time and in another way than csrc/parse.h does it.

Everything is a slice: of a header that is cut short, or lies, nothing is taken.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.support.frames import ICMP, ICMPV6, IPV4, IPV6, SCTP, TCP, UDP
from xtrace.flow import FRAGMENT, FlowKey

NO_FLOW = FlowKey(bytes(16), bytes(16), 0, 0, 0, 0, 0, 0, 0, 0, 0)
MAPPED = bytes(10) + b"\xff\xff"
"""RFC 4291, 2.5.5.2"""


class Parsed(NamedTuple):
    key: FlowKey
    tcp_flags: int = 0


def number(field: bytes) -> int:
    """A field in network byte order."""
    return int.from_bytes(field, "big")


def parse(frame: bytes) -> Parsed:
    """The flow of a frame that came in on slot 0."""
    key = NO_FLOW._replace(ethertype=number(frame[12:14]))
    if key.ethertype == IPV4:
        return _ipv4(key, frame[14:])
    if key.ethertype == IPV6:
        return _ipv6(key, frame[14:])
    return Parsed(key)


def _ipv4(key: FlowKey, packet: bytes) -> Parsed:
    if len(packet) < 20 or packet[0] not in range(0x45, 0x50):
        return Parsed(key)
    fragment = number(packet[6:8]) & 0x3FFF
    key = key._replace(
        src=MAPPED + packet[12:16],
        dst=MAPPED + packet[16:20],
        protocol=packet[9],
        flags=FRAGMENT if fragment else 0,
    )
    if fragment & 0x1FFF:
        return Parsed(key)
    return _transport(key, packet[4 * (packet[0] & 15) :])


def _ipv6(key: FlowKey, packet: bytes) -> Parsed:
    if len(packet) < 40 or packet[0] not in range(0x60, 0x70):
        return Parsed(key)
    return _transport(key._replace(src=packet[8:24], dst=packet[24:40], protocol=packet[6]), packet[40:])


def _transport(key: FlowKey, segment: bytes) -> Parsed:
    if key.protocol in (TCP, UDP, SCTP) and len(segment) >= 4:
        key = key._replace(src_port=number(segment[0:2]), dst_port=number(segment[2:4]))
    if key.protocol in (ICMP, ICMPV6) and len(segment) >= 2:
        key = key._replace(src_port=segment[0], dst_port=segment[1])
    return Parsed(key, segment[13] if key.protocol == TCP and len(segment) >= 14 else 0)
