"""A frame and the flow it belongs to, and short ways to write both."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from tests.support.frames import ACK, DST, DST6, IPV4, IPV6, SRC, SRC6, TCP, ethernet, ipv4, ipv6, tcp
from xtrace.model.flow import FlowKey


class Case(NamedTuple):
    name: str
    frame: bytes
    key: FlowKey
    traffic_type: str
    tcp_flags: int = 0


def only(ethertype: int, *, vlan_id: int = 0) -> FlowKey:
    """The flow of frames of which no more is known."""
    return FlowKey(bytes(16), bytes(16), 0, 0, 0, vlan_id, ethertype, 0, 0, 0, 0)


def mapped(address: str) -> bytes:
    """An IPv4 address as a key has it."""
    return ipaddress.IPv6Address(f"::ffff:{address}").packed


def flow4(
    protocol: int,
    src_port: int = 0,
    dst_port: int = 0,
    *,
    src: str = SRC,
    dst: str = DST,
    flags: int = 0,
    vlan_id: int = 0,
) -> FlowKey:
    """An IPv4 flow; ICMP has type and code in the ports."""
    return FlowKey(mapped(src), mapped(dst), src_port, dst_port, 0, vlan_id, IPV4, 0, protocol, 0, flags)


def flow6(
    protocol: int,
    src_port: int = 0,
    dst_port: int = 0,
    *,
    src: str = SRC6,
    dst: str = DST6,
    flags: int = 0,
    vlan_id: int = 0,
) -> FlowKey:
    """An IPv6 flow."""
    addresses = [ipaddress.IPv6Address(address).packed for address in (src, dst)]
    return FlowKey(addresses[0], addresses[1], src_port, dst_port, 0, vlan_id, IPV6, 0, protocol, 0, flags)


def over_ipv4(protocol: int, payload: bytes = b"") -> bytes:
    return ethernet(IPV4, ipv4(protocol, payload))


def over_ipv6(next_header: int, payload: bytes = b"") -> bytes:
    return ethernet(IPV6, ipv6(next_header, payload))


WEB = tcp(40000, 80, ACK, b"GET / HTTP/1.1\r\n\r\n")
WEB_FLOW = flow4(TCP, 40000, 80)
WEB_FLOW6 = flow6(TCP, 40000, 80)
