"""Frames, built header by header: `ethernet(IPV4, ipv4(TCP, tcp(1024, 80, SYN)))`.

Every function returns bytes as on the wire; `payload` is what follows a header. Header fields that tests do not check
are constant. Checksums are correct in IPv4 headers and 0 elsewhere.
"""

from __future__ import annotations

import socket
import struct

IPV4, ARP, RARP, VLAN, IPV6, LLDP = 0x0800, 0x0806, 0x8035, 0x8100, 0x86DD, 0x88CC
SERVICE_VLAN, ROCE_V1, MPLS, PPPOE, ETHERNET = 0x88A8, 0x8915, 0x8847, 0x8864, 0x6558
LLC = 0x0004
"""Ethertypes. SERVICE_VLAN is the outer tag of 802.1ad; LLC stands in flow keys for lengths, below 0x600. ETHERNET is a
whole frame, in GRE and Geneve."""

ICMP, IGMP, IPIP, TCP, UDP, IN_IPV6, GRE, ESP, ICMPV6, SCTP, IN_MPLS = 1, 2, 4, 6, 17, 41, 47, 50, 58, 132, 137
"""IP protocol numbers"""

HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AH, NO_NEXT_HEADER, DESTINATION = 0, 43, 44, 51, 59, 60
"""IPv6 extension headers, and the number for no next header"""

ROCE_V2_PORT = 4791
INFINIBAND = 0x1B
"""Next header of a global route header before a base transport header"""

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

MAC_TO, MAC_FROM = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
SRC, DST = "10.0.0.1", "10.0.0.2"
SRC6, DST6 = "fd00::1", "fd00::2"


def ethernet(ethertype: int, payload: bytes = b"") -> bytes:
    """A frame; 802.3 length fields are ethertypes below 0x600."""
    return MAC_TO + MAC_FROM + struct.pack("!H", ethertype) + payload


def vlan(vlan_id: int, ethertype: int, payload: bytes, *, priority: int = 0) -> bytes:
    """Return what follows ethertype 0x8100: the tag, then the ethertype of the payload."""
    return struct.pack("!HH", priority << 13 | vlan_id, ethertype) + payload


def checksum(header: bytes) -> int:
    """RFC 1071; `header` of even length, its checksum field 0."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    protocol: int,
    payload: bytes = b"",
    *,
    src: str = SRC,
    dst: str = DST,
    options: bytes = b"",
    offset: int = 0,
    more: bool = False,
    dont: bool = False,
    version: int = 4,
    ihl: int | None = None,
    total: int | None = None,
) -> bytes:
    """An IPv4 packet. `offset` counts 8-byte units, `more` and `dont` are the fragment flags.

    `ihl`, in 32-bit words, and `total`, in bytes, follow from the packet unless given.
    """
    words = 5 + len(options) // 4 if ihl is None else ihl
    fragment = dont << 14 | more << 13 | offset
    length = 20 + len(options) + len(payload) if total is None else total
    addresses = socket.inet_aton(src) + socket.inet_aton(dst)
    start = struct.pack("!BBHHHBB", version << 4 | words, 0, length, 0x1234, fragment, 64, protocol)
    header = start + bytes(2) + addresses + options
    return start + struct.pack("!H", checksum(header)) + addresses + options + payload


def ipv6(
    next_header: int,
    payload: bytes = b"",
    *,
    src: str = SRC6,
    dst: str = DST6,
    version: int = 6,
    length: int | None = None,
) -> bytes:
    """An IPv6 packet without extension headers, unless `payload` begins with one.

    `length`, in bytes, is the payload's unless the header is to lie about it.
    """
    length = len(payload) if length is None else length
    start = struct.pack("!IHBB", version << 28 | 0x12345, length, next_header, 64)
    return start + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + payload


def extension(next_header: int, payload: bytes, *, length: int = 0) -> bytes:
    """A hop-by-hop, routing or destination header of 8 * (1 + length) bytes, all of it padding."""
    options = struct.pack("!BB", 1, 4 + 8 * length) if length < 32 else bytes(2)
    return struct.pack("!BB", next_header, length) + options + bytes(4 + 8 * length) + payload


def fragment_header(next_header: int, payload: bytes, *, offset: int = 0, more: bool = False) -> bytes:
    """An IPv6 fragment header; `offset` counts 8-byte units. With neither it is an atomic fragment."""
    return struct.pack("!BBHI", next_header, 0, offset << 3 | more, 0xABCD) + payload


def ah(next_header: int, payload: bytes, *, words: int = 3) -> bytes:
    """An authentication header with a check value of `words` 32-bit words."""
    return struct.pack("!BBHII", next_header, 1 + words, 0, 0x2000, 1) + b"\xa5" * 4 * words + payload


def tcp(src_port: int, dst_port: int, flags: int = ACK, payload: bytes = b"", *, options: bytes = b"") -> bytes:
    """A TCP segment; `options` are a multiple of 4 bytes."""
    data_offset = 5 + len(options) // 4 << 4
    header = struct.pack("!HHIIBBHHH", src_port, dst_port, 0x01020304, 0x05060708, data_offset, flags, 0xFFFF, 0, 0)
    return header + options + payload


def udp(src_port: int, dst_port: int, payload: bytes = b"") -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", src_port, dst_port, 8 + len(payload), 0) + payload


def sctp(src_port: int, dst_port: int) -> bytes:
    """An SCTP packet with a COOKIE ACK chunk."""
    return struct.pack("!HHII", src_port, dst_port, 0x0A0B0C0D, 0) + struct.pack("!BBH", 11, 0, 4)


def icmp(type_: int, code: int, payload: bytes = b"") -> bytes:
    """An ICMP or ICMPv6 message; an echo's identifier and sequence number are 1."""
    return struct.pack("!BBHHH", type_, code, 0, 1, 1) + payload


def arp(
    operation: int = 1,
    *,
    src: str = SRC,
    dst: str = DST,
    hardware: int = 1,
    protocol: int = IPV4,
    lengths: tuple[int, int] = (6, 4),
) -> bytes:
    """An ARP request (1) or reply (2) for IPv4 over Ethernet, unless its type or length fields say otherwise."""
    start = struct.pack("!HHBBH", hardware, protocol, *lengths, operation)
    return start + MAC_FROM + socket.inet_aton(src) + MAC_TO + socket.inet_aton(dst)


def lldp() -> bytes:
    """An LLDP data unit: chassis, port, time to live, end."""
    return bytes.fromhex("0207 04 020000000001 0403 07 6530 0602 0078 0000")


def gre(
    ethertype: int, payload: bytes, *, checksum: bool = False, key: int | None = None, sequence: bool = False
) -> bytes:
    """A GRE header, with a checksum, key and sequence number where they are wanted."""
    flags = checksum << 15 | (key is not None) << 13 | sequence << 12
    options = bytes(4) * checksum + (b"" if key is None else key.to_bytes(4, "big")) + b"\0\0\0\1" * sequence
    return struct.pack("!HH", flags, ethertype) + options + payload


def nvgre(vni: int, payload: bytes) -> bytes:
    """A whole frame in GRE, its network in the key."""
    return gre(ETHERNET, payload, key=vni << 8)


def vxlan(vni: int, payload: bytes, *, port: int = 4789, flags: int = 8) -> bytes:
    """The UDP datagram with a frame in it."""
    return udp(49152, port, struct.pack("!B3xI", flags, vni << 8) + payload)


def geneve(vni: int, ethertype: int, payload: bytes, *, options: bytes = b"", version: int = 0) -> bytes:
    """The UDP datagram with a packet in it; `options` are a multiple of 4 bytes."""
    return udp(
        49152, 6081, struct.pack("!BBHI", version << 6 | len(options) // 4, 0, ethertype, vni << 8) + options + payload
    )


def gtp(tunnel: int, payload: bytes, *, sequence: bool = False, extensions: int = 0, type_: int = 255) -> bytes:
    """The UDP datagram with a user's packet in it; extension headers are of 8 bytes."""
    flags = 0x30 | (extensions > 0) << 2 | sequence << 1
    options = struct.pack("!HBB", 1, 0, 0x85 if extensions else 0) if flags & 7 else b""
    for left in range(extensions, 0, -1):
        options += struct.pack("!B6xB", 2, 0x85 if left > 1 else 0)
    length = len(options) + len(payload)
    return udp(2152, 2152, struct.pack("!BBHI", flags, type_, length & 0xFFFF, tunnel) + options + payload)


def mpls(labels: int, payload: bytes) -> bytes:
    """A stack of labels, the last one marked as such."""
    return (
        b"".join((label << 12 | (label == labels) << 8 | 64).to_bytes(4, "big") for label in range(1, labels + 1))
        + payload
    )


def pppoe(protocol: int, payload: bytes) -> bytes:
    """A PPPoE session's packet: 0x0021 is IPv4, 0x0057 IPv6."""
    return struct.pack("!BBHHH", 0x11, 0, 7, 2 + len(payload), protocol) + payload


def esp(payload: bytes) -> bytes:
    """An ESP header; what follows is encrypted."""
    return struct.pack("!II", 0x1000, 1) + payload


def igmp(group: str) -> bytes:
    """An IGMPv2 membership report."""
    return struct.pack("!BBH4s", 0x16, 0, 0, socket.inet_aton(group))


def bth(
    opcode: int,
    dst_qpn: int,
    payload: bytes = b"",
    *,
    version: int = 0,
    congestion: int = 0,
    psn: int = 0x010203,
    partition: int = 0xFFFF,
) -> bytes:
    """A base transport header; `congestion` is the byte with FECN (0x80) and BECN (0x40)."""
    start = struct.pack("!BBHI", opcode, version, partition, congestion << 24 | dst_qpn)
    return start + struct.pack("!I", 0x80 << 24 | psn) + payload


def deth(src_qpn: int, payload: bytes = b"") -> bytes:
    """A datagram extended transport header."""
    return struct.pack("!II", 0x11111111, src_qpn) + payload


def roce(transport: bytes) -> bytes:
    """The UDP datagram of RoCE v2, with the invariant CRC left 0."""
    return udp(49152, ROCE_V2_PORT, transport + bytes(4))


def grh(
    transport: bytes, *, src: str = SRC6, dst: str = DST6, next_header: int = INFINIBAND, version: int = 6
) -> bytes:
    """The packet of RoCE v1: a global route header, which looks like IPv6's, and the invariant CRC left 0."""
    return ipv6(next_header, transport + bytes(4), src=src, dst=dst, version=version)
