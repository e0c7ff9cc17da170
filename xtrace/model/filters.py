"""Packet filters. The kernel program checks each packet and counts those that do not match as filtered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from xtrace.errors import UsageError
from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.values import items, unknown

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network

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
"""Names for --filter and their traffic types; RoCE v2 is not udp."""

_NETWORK = abi.layout("struct network", "prefix_length", "family", "address")
_FAMILY_BITS = 8 * (abi.offset("struct network", "address") - abi.offset("struct network", "family"))
_MAPPED = bytes(10) + b"\xff\xff"
_IPV4_PREFIX = 96
"""Prefix length of ::ffff:0:0/96, which holds IPv4 addresses."""


class Filters(NamedTuple):
    """A packet must match all filters, and any value of each. Empty means off."""

    types: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    excluded_networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    exclude_dns: bool = False
    inner: bool = False
    """whether flows, and what the filters look at, are those of packets in tunnels"""

    def constants(self) -> dict[str, int]:
        """Return the constants of the packet program."""
        return {
            "wanted_types": sum(1 << TRAFFIC_TYPES.index(name) for name in self.types),
            "has_networks": bool(self.networks),
            "has_excluded_networks": bool(self.excluded_networks),
            "has_ports": bool(self.ports),
            "excludes_dns": self.exclude_dns,
            "peels_tunnels": self.inner,
        }

    def entries(self) -> dict[str, int]:
        """Return the sizes of maps that only some filters use: name -> entries."""
        return {"datagrams": lib.FRAGMENTED_DATAGRAMS if self.ports or self.exclude_dns else 1}

    def port_words(self) -> dict[int, int]:
        """Return the nonzero words of the `ports` bitmap: word index -> 64 bits."""
        words: dict[int, int] = {}
        for port in self.ports:
            words[port // 64] = words.get(port // 64, 0) | 1 << port % 64
        return words


def network_key(network: Network) -> bytes:
    """Return struct network: prefix length in bits, family, and the address as in the flow key."""
    packed = network.network_address.packed
    bits = network.prefixlen + _FAMILY_BITS
    if network.version == 4:
        return _NETWORK.pack(bits + _IPV4_PREFIX, 4, _MAPPED + packed)
    # ip_network() refuses shorter prefixes of ::ffff:0:0/96: the last of these bits would be a host bit
    return _NETWORK.pack(bits, 4 if packed.startswith(_MAPPED) else 6, packed)


def parse_types(text: str, name: str = "--filter") -> frozenset[str]:
    """Return the traffic types of `roce,tcp`, empty if `all` is among them. Raises UsageError."""
    given = [item.lower() for item in items(text, name)]
    for item in given:
        if item not in TYPES:
            raise unknown(name, "traffic type", item, TYPES)
    if "all" in given:
        return frozenset()
    return frozenset(traffic_type for item in given for traffic_type in TYPES[item])


def parse_networks(text: str, name: str) -> tuple[Network, ...]:
    """Return the networks of `10.0.0.0/8,fd00::1`. Raises UsageError."""
    networks = tuple(_network(item, name) for item in items(text, name))
    if len(networks) > lib.MAX_NETWORKS:
        raise UsageError(f"{name}: {len(networks)} networks are too many (at most {lib.MAX_NETWORKS})")
    return networks


def _network(item: str, name: str) -> Network:
    if "%" in item:
        raise UsageError(f"{name}: '{item}' has a scope, which packets do not carry (leave out the % and the scope)")
    from ipaddress import ip_network  # a slow import that --help and --version do not need

    with suppress(ValueError):
        return ip_network(item)
    try:
        network = ip_network(item, strict=False)
    except ValueError:
        raise UsageError(
            f"{name}: '{item}' is not an IP address or network (for example 10.0.0.1, 10.0.0.0/8 or fd00::/8)"
        ) from None
    address = item.partition("/")[0]
    raise UsageError(f"{name}: '{item}' has host bits set (use {network}, or {address} for that address only)")


def parse_ports(text: str, name: str = "--port") -> frozenset[int]:
    """Return the numbers of `80,8000-8100`. Raises UsageError."""
    ports: set[int] = set()
    for item in items(text, name):
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", item)
        first, last = (int(number) for number in (found[1], found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= 65535 or not last <= 65535:
            raise UsageError(f"{name}: '{item}' is not a port or range (1 to 65535, 8000-8100)")
        if last < first:
            raise UsageError(f"{name}: the range '{item}' is empty (use {last}-{first})")
        ports.update(range(first, last + 1))
    return frozenset(ports)


def written_ports(ports: Iterable[int]) -> str:
    """Return `80 443 8000-8100`: in order, more than two in a row as a range."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][-1] + 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs)


def describe(filters: Filters) -> Iterable[str]:
    """Yield the active filters as shown in the `start` record."""
    if filters.types:
        yield "types " + " ".join(sorted(filters.types))
    if filters.networks:
        yield "net " + " ".join(map(str, filters.networks))
    if filters.excluded_networks:
        yield "exclude-net " + " ".join(map(str, filters.excluded_networks))
    if filters.ports:
        yield f"port {written_ports(filters.ports)}"
    if filters.exclude_dns:
        yield "exclude-dns"
    if filters.inner:
        yield "tunnel inner"
