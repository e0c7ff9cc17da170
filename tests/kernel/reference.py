"""What a frame's flow is, read a second time and in another way than csrc/parse.h does it.

Everything is a slice: of a header that is cut short, or lies, nothing is taken.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.support.frames import (
    AH,
    ARP,
    DESTINATION,
    ETHERNET,
    FRAGMENT_HEADER,
    GRE,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IN_IPV6,
    IN_MPLS,
    INFINIBAND,
    IPIP,
    IPV4,
    IPV6,
    LLC,
    MPLS,
    PPPOE,
    ROCE_V1,
    ROCE_V2_PORT,
    ROUTING,
    SCTP,
    SERVICE_VLAN,
    TCP,
    UDP,
    VLAN,
    checksum,
)
from xtrace.kernel.syscall import lib
from xtrace.model.flow import FRAGMENT, HAS_SRC_QPN, INNER, LATER_FRAGMENT, FlowKey
from xtrace.model.flow import ROCE_V1 as IS_ROCE_V1
from xtrace.model.flow import ROCE_V2 as IS_ROCE_V2
from xtrace.model.roce import opcode_name

NO_FLOW = FlowKey(bytes(16), bytes(16), 0, 0, 0, 0, 0, 0, 0, 0, 0)
MAPPED = bytes(10) + b"\xff\xff"
"""RFC 4291, 2.5.5.2"""

ARP_FOR_IPV4 = bytes.fromhex("0001 0800 06 04")
MOST_TAGS = 2
MOST_EXTENSION_HEADERS = 6
LONGEST_IP_PACKET = 65535
"""A length of 0 in a longer frame is one that the field could not hold."""
ETH_P_802_3 = 1
"""linux/if_ether.h"""
MOST_TAGS_PASSED = 4
MOST_LABELS = 4
"""On the way to the packet in a tunnel."""
SHORTEST_FRAME = 64
"""A longer one was not padded."""
FURTHEST = 2047
"""No transport header is looked for further into a frame."""

EXTENSION_PARTS = {
    "WITH_(IMM|INVALIDATE)": 4,
    "WRITE_(FIRST|ONLY)|READ_REQUEST|FLUSH": 16,
    "FLUSH": 4,
    "ATOMIC_WRITE": 16 + 8,
    "RESPONSE_(FIRST|LAST|ONLY)|ACKNOWLEDGE": 4,
    "ATOMIC_ACKNOWLEDGE": 8,
    "COMPARE_SWAP|FETCH_ADD": 28,
}
"""Bytes that an operation adds to the base transport header (IBA 9.3 and 9.4; A19)."""
SERVICE_PARTS = {"RD_": 4, "(RD|UD)_(?!.*(RESPONSE|ACKNOWLEDGE))": 8, "XRC_(?!.*(RESPONSE|ACKNOWLEDGE))": 4}
"""Bytes that a service adds to it: RDETH, DETH, XRCETH."""


class Parsed(NamedTuple):
    key: FlowKey
    tcp_flags: int = 0


def number(field: bytes) -> int:
    """A field in network byte order."""
    return int.from_bytes(field, "big")


def parse(frame: bytes, *, stripped_tag: int | None = None) -> Parsed:
    """The flow of an Ethernet frame that came in on slot 0, maybe with a VLAN tag that was taken out of it."""
    tags = [] if stripped_tag is None else [stripped_tag]
    ethertype, packet = number(frame[12:14]), frame[14:]
    for _ in range(MOST_TAGS - len(tags)):
        if ethertype in (VLAN, SERVICE_VLAN) and len(packet) >= 4:
            tags.append(number(packet[:2]))
            ethertype, packet = number(packet[2:4]), packet[4:]
    if ethertype < 0x600:
        ethertype = LLC
    return _network(NO_FLOW._replace(ethertype=ethertype, vlan_id=[*tags, 0][0] % 4096), frame, packet)


def parse_network(frame: bytes) -> Parsed:
    """The flow of a packet without a link layer at tc, whose frame BPF_PROG_TEST_RUN gives 14 bytes of another."""
    protocol = number(frame[12:14])
    if protocol < 0x600:  # eth_type_trans()
        protocol = ETH_P_802_3 if frame[14:16] == b"\xff\xff" else LLC
    return _network(NO_FLOW._replace(ethertype=protocol), frame, frame[14:])


def parse_nothing(frame: bytes) -> Parsed:
    """The flow of a packet of which XDP is told nothing."""
    return Parsed(NO_FLOW)


def parse_raw_ip(packet: bytes) -> Parsed:
    """The flow of a packet without a link layer that came in on slot 0."""
    return _network(NO_FLOW._replace(ethertype={4: IPV4, 6: IPV6}.get(packet[0] >> 4, 0)), packet, packet)


def parse_ipoib(frame: bytes) -> Parsed:
    """The flow of an IPoIB frame, as the kernel has it, that came in on slot 0."""
    return _network(NO_FLOW._replace(ethertype=number(frame[20:22]) if len(frame) >= 24 else 0), frame, frame[24:])


class Inside(NamedTuple):
    """What a walk has come to, and the tunnel that it is in."""

    kind: int = lib.TUNNEL_NONE
    number: int = 0
    what: int | str = "frame"
    """an ethertype; or that only the first bits say what it is"""
    data: bytes = b""
    tags: tuple[int, ...] = ()
    by_bits: bool = False


def parse_inner(frame: bytes, is_merged: bool = False) -> Parsed:
    """As parse(), but of the IP packet in the outermost tunnel, where there is one."""
    found = _in_tunnel(frame)
    ethertype = found and _believed(found, frame, is_merged)
    if not found or not ethertype:
        key, flags = parse(frame)
        second = [*_behind_tags(Inside(what=number(frame[12:14]), data=frame[14:]), MOST_TAGS).tags, 0, 0][1]
        return Parsed(
            key._replace(vlan_id=key.vlan_id | second >> 8 << 12, src_qpn=key.src_qpn | second % 256 << 24), flags
        )
    first, *_ = _behind_tags(Inside(what=number(frame[12:14]), data=frame[14:]), MOST_TAGS_PASSED).tags or (0,)
    inside = _network(NO_FLOW._replace(ethertype=ethertype), found.data, found.data)
    has_number = found.kind < lib.TUNNEL_GRE
    key = inside.key._replace(
        vlan_id=found.kind << 12 | first,
        ethertype=(4 if ethertype == IPV4 else 6) << 12 | [*found.tags, 0][0],
        src_qpn=found.number if has_number else inside.key.src_qpn,
        flags=(inside.key.flags & ~HAS_SRC_QPN if has_number else inside.key.flags) | INNER,
    )
    return Parsed(key, inside.tcp_flags)


def _believed(found: Inside, frame: bytes, is_merged: bool) -> int:
    """The ethertype of the packet that begins here, 0 if there is none."""
    packet = found.data
    version = packet[0] >> 4 if packet else 0
    ethertype = (IPV4 if version == 4 else IPV6) if found.what == "bits" else found.what
    if ethertype == IPV4 and len(packet) >= 20 and packet[0] in range(0x45, 0x50):
        length = number(packet[2:4])
        if found.by_bits and (packet[0] != 0x45 or checksum(packet[:20])):
            return 0
    elif ethertype == IPV6 and len(packet) >= 8 and version == 6:
        length = 40 + number(packet[4:6])
    else:
        return 0
    exactly = is_merged or (found.by_bits and len(frame) > SHORTEST_FRAME)
    is_there = length == len(packet) if exactly else length <= len(packet)
    return int(ethertype) if is_there else 0


def _behind_tags(at: Inside, most: int) -> Inside:
    for _ in range(most):
        if at.what in (VLAN, SERVICE_VLAN) and len(at.data) >= 4:
            tag, ethertype = number(at.data[:2]) % 4096, number(at.data[2:4])
            at = at._replace(what=ethertype, data=at.data[4:], tags=(*at.tags, tag))
    return at


def _behind_links(at: Inside) -> Inside | None:
    """Behind all that may stand before an IP header; None where no header may follow."""
    if at.what == ETHERNET:
        at = at._replace(what=number(at.data[12:14]), data=at.data[14:])
    at = _behind_tags(at, MOST_TAGS_PASSED)
    if at.what == PPPOE and len(at.data) >= 8:
        ethertype = {0x21: IPV4, 0x57: IPV6}.get(number(at.data[6:8]))
        if ethertype is None:
            return None
        at = at._replace(kind=at.kind or lib.TUNNEL_PPPOE, what=ethertype, data=at.data[8:])
    for _ in range(MOST_LABELS):
        if at.what in (MPLS, 0x8848) and len(at.data) >= 4:
            what = "bits" if at.data[2] & 1 else at.what
            at = at._replace(kind=at.kind or lib.TUNNEL_MPLS, what=what, data=at.data[4:])
    if at.what == "GTP extension":
        length = 4 * sum(at.data[:1])
        if not length or len(at.data) < length or at.data[length - 1]:
            return None
        at = at._replace(what="bits", data=at.data[length:])
    return at._replace(by_bits=at.by_bits or at.what == "bits")


def _in_tunnel(frame: bytes) -> Inside | None:
    """What is in the outermost tunnel, if it may be a packet."""
    at = _behind_links(Inside(what=ETHERNET, data=frame))
    if at is None or at.kind:
        return at and at._replace(tags=at.tags[1:2])
    key = NO_FLOW._replace(ethertype=int(at.what))
    packet = at.data[: _own_length(key, frame, at.data)]
    if key.ethertype == IPV4:
        key, rest = _ipv4(key, packet)
    elif key.ethertype == IPV6:
        key, rest = _ipv6(key, packet)
    else:
        return None
    if key.flags & FRAGMENT:
        return None
    inside = _entered(key.protocol, key.ethertype == IPV4, rest)
    found = inside and _behind_links(inside)
    return found and found._replace(tags=(*found.tags[:1], *at.tags[1:2])[:1])


def _entered(protocol: int, in_ipv4: bool, data: bytes) -> Inside | None:
    """Behind the header of a tunnel."""
    if protocol == IPIP:
        return Inside(lib.TUNNEL_IPIP if in_ipv4 else lib.TUNNEL_IP6TNL, 0, IPV4, data)
    if protocol == IN_IPV6:
        return Inside(lib.TUNNEL_SIT if in_ipv4 else lib.TUNNEL_IP6TNL, 0, IPV6, data)
    if protocol == IN_MPLS:
        return Inside(what=MPLS, data=data)
    if protocol == GRE and len(data) >= 4:
        flags, ethertype = number(data[:2]), number(data[2:4])
        begin = 4 + 4 * (flags >> 15)
        key, size = number(data[begin : begin + 4]), begin + 4 * (flags >> 13 & 1) + 4 * (flags >> 12 & 1)
        kind = lib.TUNNEL_GRE_KEY if flags & 0x2000 else lib.TUNNEL_GRE
        known = not flags & 0x4007
        return Inside(kind, key if flags & 0x2000 else 0, ethertype, data[size:]) if known else None
    if protocol == UDP and len(data) >= 16:
        return _entered_udp(number(data[2:4]), data[8:])
    return None


def _entered_udp(port: int, data: bytes) -> Inside | None:
    if port in (4789, 8472):
        return Inside(lib.TUNNEL_VXLAN, number(data[4:7]), ETHERNET, data[8:]) if data[0] & 8 else None
    if port == 6081:
        begin = 8 + 4 * (data[0] % 64)
        known = data[0] >> 6 == 0
        return Inside(lib.TUNNEL_GENEVE, number(data[4:7]), number(data[2:4]), data[begin:]) if known else None
    if port == 2152 and data[0] >> 4 == 3 and data[1] == 255:
        has_options, has_extension = data[0] & 7 > 0, data[0] & 4 and data[11:12] not in (b"", b"\0")
        what = "GTP extension" if has_extension else "bits"
        return Inside(lib.TUNNEL_GTP, number(data[4:8]), what, data[12 if has_options else 8 :])
    return None


def _own_length(key: FlowKey, frame: bytes, packet: bytes) -> int:
    """Bytes of the packet by its own header; without one that says it, all there are."""
    if key.ethertype == IPV4 and len(packet) >= 20 and packet[0] in range(0x45, 0x50):
        field, header = number(packet[2:4]), 0
    elif key.ethertype in (IPV6, ROCE_V1) and len(packet) >= 40 and packet[0] >> 4 == 6:
        field, header = number(packet[4:6]), 40
    else:
        return len(packet)
    if field == 0 and len(frame) > LONGEST_IP_PACKET:
        return len(packet)
    return max(20, header + field)


def _network(key: FlowKey, frame: bytes, packet: bytes) -> Parsed:
    own_length = _own_length(key, frame, packet)
    padding = max(0, len(packet) - own_length)
    frame, packet = frame[: len(frame) - padding], packet[: len(packet) - padding]
    missing = own_length - len(packet)
    if key.ethertype == IPV4:
        key, segment = _ipv4(key, packet)
    elif key.ethertype == IPV6:
        key, segment = _ipv6(key, packet)
    elif key.ethertype == ARP and packet[:6] == ARP_FOR_IPV4 and len(packet) >= 28:
        return Parsed(key._replace(src=MAPPED + packet[14:18], dst=MAPPED + packet[24:28]))
    elif key.ethertype == ROCE_V1 and len(packet) >= 40 and packet[0] >> 4 == 6:
        key = key._replace(src=packet[8:24], dst=packet[24:40])
        return Parsed(_bth(key, packet[40:], own_length - 40, IS_ROCE_V1) if packet[6] == INFINIBAND else key)
    else:
        return Parsed(key)
    return _transport(key, segment, missing) if len(frame) - len(segment) <= FURTHEST else Parsed(key)


def _ipv4(key: FlowKey, packet: bytes) -> tuple[FlowKey, bytes]:
    """The key, and what stands where its transport header should."""
    if len(packet) < 20 or packet[0] not in range(0x45, 0x50):
        return key, b""
    more, offset = packet[6] >> 5 & 1, number(packet[6:8]) & 0x1FFF
    key = key._replace(
        src=MAPPED + packet[12:16],
        dst=MAPPED + packet[16:20],
        protocol=packet[9],
        flags=_fragment_flags(bool(more), offset),
    )
    rest = b"" if offset else packet[4 * (packet[0] & 15) :]
    return _ah(key, rest) if key.protocol == AH and len(rest) >= 8 else (key, rest)


def _ah(key: FlowKey, rest: bytes) -> tuple[FlowKey, bytes]:
    """The key, and what stands behind an authentication header."""
    return key._replace(protocol=rest[0]), rest[8 + 4 * rest[1] :]


def _ipv6(key: FlowKey, packet: bytes) -> tuple[FlowKey, bytes]:
    """The key, and what stands where its transport header should."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return key, b""
    key = key._replace(src=packet[8:24], dst=packet[24:40], protocol=packet[6])
    rest = packet[40:]
    for _ in range(MOST_EXTENSION_HEADERS):
        length = _extension_length(key.protocol, rest)
        if length is None:
            return key, rest
        if len(rest) < 8:
            return key, b""
        is_fragment, key = key.protocol == FRAGMENT_HEADER, key._replace(protocol=rest[0])
        if is_fragment:
            offset = number(rest[2:4]) >> 3
            key = key._replace(flags=key.flags | _fragment_flags(bool(rest[3] & 1), offset))
            if offset:
                return key, b""
        if len(rest) < length:
            return key, b""
        rest = rest[length:]
    return key, rest


def _extension_length(protocol: int, header: bytes) -> int | None:
    """Bytes of an extension header; None where there is none."""
    length = sum(header[1:2])
    if protocol in (HOP_BY_HOP, ROUTING, DESTINATION):
        return 8 * (1 + length)
    if protocol == AH:
        return 4 * (2 + length)
    return 8 if protocol == FRAGMENT_HEADER else None


def _fragment_flags(more: bool, offset: int) -> int:
    if offset:
        return FRAGMENT | LATER_FRAGMENT
    return FRAGMENT if more else 0


def _transport(key: FlowKey, segment: bytes, missing: int) -> Parsed:
    """With what a transport header has; of its packet `missing` bytes are not there."""
    if key.protocol in (TCP, UDP, SCTP) and len(segment) >= 4:
        key = key._replace(src_port=number(segment[0:2]), dst_port=number(segment[2:4]))
    if key.protocol in (ICMP, ICMPV6) and len(segment) >= 2:
        key = key._replace(src_port=segment[0], dst_port=segment[1])
    if key.protocol == UDP and key.dst_port == ROCE_V2_PORT and len(segment) >= 8:
        length = number(segment[4:6])
        if length <= len(segment) + missing or key.flags & FRAGMENT:
            key = _bth(key, segment[8:], length - 8, IS_ROCE_V2)
    return Parsed(key, segment[13] if key.protocol == TCP and len(segment) >= 14 else 0)


def _extension_bytes(name: str) -> int | None:
    """The extension headers of an opcode by its name (IBA 9.3), in bytes; None for no such opcode."""
    if name == "CNP":
        return 16
    if name.startswith("0x"):
        return 0 if int(name, 16) >= 0xC0 else None
    found = sum(size for part, size in EXTENSION_PARTS.items() if re.search(part, name))
    return found + sum(size for part, size in SERVICE_PARTS.items() if re.match(part, name))


def _is_infiniband(transport: bytes, length: int) -> bool:
    """Whether a base transport header, with `length` bytes from it to the packet's end, makes sense."""
    extensions = _extension_bytes(opcode_name(transport[0]))
    if extensions is None or transport[1] % 16 or number(transport[2:4]) % 0x8000 == 0 or length % 4:
        return False
    return length >= 12 + extensions + (transport[1] // 16) % 4 + 4


def _bth(key: FlowKey, transport: bytes, length: int, version: int) -> FlowKey:
    """With the queue pairs of a base transport header and, of a datagram, the one behind it."""
    if len(transport) < 12 or not _is_infiniband(transport, length):
        return key
    dst_qpn = number(transport[5:8])
    key = key._replace(
        src_port=dst_qpn % 65536, dst_port=dst_qpn // 65536, opcode=transport[0], flags=key.flags | version
    )
    if transport[0] not in range(0x60, 0x80) or len(transport) < 20:
        return key
    return key._replace(src_qpn=number(transport[17:20]), flags=key.flags | HAS_SRC_QPN)
