"""Connections that netfilter tracks, by ctnetlink (uapi/linux/netfilter/nfnetlink_conntrack.h). Needs CAP_NET_ADMIN."""

from __future__ import annotations

import errno
from struct import Struct
from typing import NamedTuple

from xtrace.errors import KernelError
from xtrace.kernel.netlink import NetlinkSocket, malformed, pack_attribute, pack_nested, parse_attributes
from xtrace.kernel.paths import procfs

NETLINK_NETFILTER = 12
CT_GET = 1 << 8 | 1
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET"""

CTA_TUPLE_ORIG, CTA_TUPLE_REPLY = 1, 2
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3

AF_INET, AF_INET6 = 2, 10
MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address, as flows have it."""

_GENERIC = Struct("=BBH")  # struct nfgenmsg: family, version, resource


class Packet(NamedTuple):
    """Addresses and ports of packets in one direction."""

    src: bytes
    """16 bytes; IPv4 as ::ffff:a.b.c.d"""
    dst: bytes
    src_port: int
    dst_port: int
    protocol: int

    @property
    def answer(self) -> Packet:
        """The other direction."""
        return Packet(self.dst, self.src, self.dst_port, self.src_port, self.protocol)


def tracks() -> bool:
    """Whether this network namespace has tracked connections. Asking ctnetlink would load it."""
    try:
        return int((procfs() / "sys/net/netfilter/nf_conntrack_count").read_bytes()) > 0
    except (OSError, ValueError):
        return False


def beyond(netlink: NetlinkSocket, packet: Packet) -> Packet | None:
    """Return what a packet of a tracked connection is behind the translation that it is about to get.

    The same packet if it gets none; None if the connection is not tracked. Raises KernelError.
    """
    is_ipv4 = packet.src[:12] == packet.dst[:12] == MAPPED
    header = _GENERIC.pack(AF_INET if is_ipv4 else AF_INET6, 0, 0)
    try:
        found = netlink.request(CT_GET, payload=header + _pack(packet, is_ipv4), what="IPCTNL_MSG_CT_GET")
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    for message in found:
        values = parse_attributes(message.payload[_GENERIC.size :])
        ways = [_unpack(values.get(kind, b"")) for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY)]
        if packet in ways:
            return ways[not ways.index(packet)].answer
    return None


def _pack(packet: Packet, is_ipv4: bool) -> bytes:
    kinds = (CTA_IP_V4_SRC, CTA_IP_V4_DST) if is_ipv4 else (CTA_IP_V6_SRC, CTA_IP_V6_DST)
    first = 12 if is_ipv4 else 0
    addresses = (packet.src[first:], packet.dst[first:])
    return pack_nested(
        CTA_TUPLE_ORIG,
        pack_nested(CTA_TUPLE_IP, *map(pack_attribute, kinds, addresses)),
        pack_nested(
            CTA_TUPLE_PROTO,
            pack_attribute(CTA_PROTO_NUM, bytes([packet.protocol])),
            pack_attribute(CTA_PROTO_SRC_PORT, packet.src_port.to_bytes(2, "big")),
            pack_attribute(CTA_PROTO_DST_PORT, packet.dst_port.to_bytes(2, "big")),
        ),
    )


def _unpack(packed: bytes) -> Packet:
    """Raises KernelError for what is not the tuple of a protocol with ports."""
    parts = parse_attributes(packed)
    ip = parse_attributes(parts.get(CTA_TUPLE_IP, b""))
    ports = parse_attributes(parts.get(CTA_TUPLE_PROTO, b""))
    try:
        if CTA_IP_V4_SRC in ip:
            addresses = MAPPED + ip[CTA_IP_V4_SRC], MAPPED + ip[CTA_IP_V4_DST]
        else:
            addresses = ip[CTA_IP_V6_SRC], ip[CTA_IP_V6_DST]
        own, other = (int.from_bytes(ports[kind], "big") for kind in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT))
        (protocol,) = ports[CTA_PROTO_NUM]
    except (KeyError, ValueError) as error:
        raise malformed(f"a tracked connection without {error}") from error
    return Packet(*addresses, own, other, protocol)
