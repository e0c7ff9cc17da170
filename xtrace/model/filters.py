"""What the user wants to see: decided per packet in the kernel, where the rest is counted as filtered."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from xtrace.errors import UsageError
from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.flow import TRAFFIC_TYPES

TYPES = {
    "tcp": ("TCP",),
    "udp": ("UDP",),
    "icmp": ("ICMP",),
    "sctp": ("SCTP",),
    "roce_v1": ("RoCE_v1_IBoE",),
    "roce_v2": ("RoCE_v2",),
    "roce": ("RoCE_v1_IBoE", "RoCE_v2"),
    "ib": ("RoCE_v1_IBoE", "RoCE_v2"),
    "all": (),
}
"""Names that --filter takes, and the traffic types they mean; RoCE v2 is not udp."""

_NETWORK = abi.layout("struct network", "prefix_length", "family", "address")
_FAMILY_BITS = 8 * (abi.offset("struct network", "address") - abi.offset("struct network", "family"))
_MAPPED = bytes(10) + b"\xff\xff"
_IPV4_PREFIX = 96
"""Bits of ::ffff:0:0/96, in which IPv4 addresses stand."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Filters:
    """All filters must agree; within one, any value is enough. Empty means off."""

    types: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    excluded_networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    exclude_dns: bool = False

    def constants(self) -> dict[str, int]:
        """The packet program's switches."""
        return {
            "wanted_types": sum(1 << TRAFFIC_TYPES.index(name) for name in self.types),
            "has_networks": bool(self.networks),
            "has_excluded_networks": bool(self.excluded_networks),
            "has_ports": bool(self.ports),
            "excludes_dns": self.exclude_dns,
        }

    def port_words(self) -> dict[int, int]:
        """The bits of the `ports` map: word index -> 64 bits, where any is set."""
        words: dict[int, int] = {}
        for port in self.ports:
            words[port // 64] = words.get(port // 64, 0) | 1 << port % 64
        return words


def network_key(network: Network) -> bytes:
    """Encode struct network: prefix length in bits, family, and the address as the flow key has it."""
    packed = network.network_address.packed
    bits = network.prefixlen + _FAMILY_BITS
    if network.version == 4:
        return _NETWORK.pack(bits + _IPV4_PREFIX, 4, _MAPPED + packed)
    is_mapped = packed.startswith(_MAPPED) and network.prefixlen >= _IPV4_PREFIX
    return _NETWORK.pack(bits, 4 if is_mapped else 6, packed)


def parse_types(text: str) -> frozenset[str]:
    """`roce,tcp` to traffic types; `all` anywhere is no filter."""
    names = [name.lower() for name in _items(text, "--filter")]
    for name in names:
        if name not in TYPES:
            raise UsageError(f"--filter '{name}': choose from {', '.join(TYPES)}")
    if "all" in names:
        return frozenset()
    return frozenset(kind for name in names for kind in TYPES[name])


def parse_networks(text: str, option: str) -> tuple[Network, ...]:
    """`10.0.0.0/8,fd00::/8`; an address alone is a network of its own."""
    networks = tuple(_network(item, option) for item in _items(text, option))
    if len(networks) > lib.MAX_NETWORKS:
        raise UsageError(f"{option}: at most {lib.MAX_NETWORKS} networks")
    return networks


def _network(item: str, option: str) -> Network:
    if "%" in item:
        raise UsageError(f"{option}: {item!r}: packets have no scope: leave out what follows the %")
    try:
        return ipaddress.ip_network(item)
    except ValueError as error:
        raise UsageError(f"{option}: {error}: write an address, or a network as 10.0.0.0/8 or fd00::/8") from None


def parse_ports(text: str) -> frozenset[int]:
    """`80,443`"""
    ports = set()
    for item in _items(text, "--port"):
        if not re.fullmatch(r"[0-9]{1,5}", item) or not 1 <= int(item) <= 65535:
            raise UsageError(f"--port '{item}': a number from 1 to 65535")
        ports.add(int(item))
    return frozenset(ports)


def _items(text: str, option: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise UsageError(f"{option} '{text}': a value is empty")
    return items


def describe(filters: Filters) -> Iterable[str]:
    """The filters that are on, as the `start` record tells them."""
    if filters.types:
        yield "types " + " ".join(sorted(filters.types))
    if filters.networks:
        yield "net " + " ".join(map(str, filters.networks))
    if filters.excluded_networks:
        yield "exclude-net " + " ".join(map(str, filters.excluded_networks))
    if filters.ports:
        yield "port " + " ".join(map(str, sorted(filters.ports)))
    if filters.exclude_dns:
        yield "exclude-dns"
