"""What is shown of an interval: flows, connections and names selected in user space, as the kernel's filters would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from xtrace.model.filters import Filters
from xtrace.model.flow import FlowKey, FlowTable
from xtrace.model.tcp import Ends
from xtrace.sinks.render import MAPPED
from xtrace.sinks.text.flows import has_ports

if TYPE_CHECKING:
    from xtrace.model.filters import Network

DNS_PORT = 53
_WORDS = Struct("=QQ")
"""An address as two words in the host's order, as FlowTable.address_words() has it."""


@dataclass(frozen=True)
class Matcher:
    """Selects flows, connections, and whatever has a name. Empty: everything."""

    text: str = ""
    """as it was typed"""
    filters: Filters = field(default_factory=Filters)
    names: tuple[str, ...] = ()

    def named(self, *names: str | None) -> bool:
        """Return whether one of `names` is wanted."""
        return not self.names or any(fnmatchcase(name, wanted) for name in names if name for wanted in self.names)

    def flows(self, table: FlowTable, indexes: Sequence[int]) -> Sequence[int]:
        """Return those of `indexes` whose flows match. All steps read columns: a table may have very many flows."""
        filters = self.filters
        if filters.types:
            wanted = _where(table, lambda key: key.traffic_type in filters.types)
            indexes = [index for index in indexes if wanted[index]]
        if filters.ports or filters.exclude_dns:
            indexes = _by_ports(table, indexes, filters)
        if filters.networks:
            inside = _touching(_ranges(filters.networks), table, indexes)
            indexes = [index for index in indexes if index in inside]
        if filters.excluded_networks:
            inside = _touching(_ranges(filters.excluded_networks), table, indexes)
            indexes = [index for index in indexes if index not in inside]
        return indexes

    def connection(self, ends: Ends) -> bool:
        """Return whether a TCP connection matches."""
        filters = self.filters
        one, one_port, other, other_port = ends
        ports = {one_port, other_port}
        addresses = [_WORDS.unpack(one), _WORDS.unpack(other)]
        return (
            (not filters.types or "TCP" in filters.types)
            and (not filters.ports or not ports.isdisjoint(filters.ports))
            and not (filters.exclude_dns and DNS_PORT in ports)
            and (not filters.networks or _touch(_ranges(filters.networks), addresses))
            and not _touch(_ranges(filters.excluded_networks), addresses)
        )


class Range(NamedTuple):
    """The addresses of a network, by words."""

    masks: tuple[int, int]
    values: tuple[int, int]
    is_ipv4: bool

    def holds(self, words: tuple[int, int]) -> bool:
        """Return whether an address is one of them. IPv4 addresses, which are mapped, are in no IPv6 network."""
        if words[0] & self.masks[0] != self.values[0] or words[1] & self.masks[1] != self.values[1]:
            return False
        return self.is_ipv4 or not _WORDS.pack(*words).startswith(MAPPED)


def _ranges(networks: Sequence[Network]) -> list[Range]:
    found = []
    for network in networks:
        mask, value = network.netmask.packed, network.network_address.packed
        if network.version == 4:
            mask, value = b"\xff" * len(MAPPED) + mask, MAPPED + value
        found.append(Range(_WORDS.unpack(mask), _WORDS.unpack(value), value.startswith(MAPPED)))
    return found


def _touch(ranges: Sequence[Range], addresses: Sequence[tuple[int, int]]) -> bool:
    return any(each.holds(words) for each in ranges for words in addresses)


def _by_ports(table: FlowTable, indexes: Sequence[int], filters: Filters) -> Sequence[int]:
    """Return the flows with wanted ports, and without those of DNS; flows without ports have none of either."""
    sources, destinations, has_some = table.column("src_port"), table.column("dst_port"), _where(table, has_ports)
    ports = filters.ports
    if ports:
        indexes = [i for i in indexes if (sources[i] in ports or destinations[i] in ports) and has_some[i]]
    if filters.exclude_dns:
        dns = DNS_PORT
        indexes = [i for i in indexes if (sources[i] != dns and destinations[i] != dns) or not has_some[i]]
    return indexes


def _touching(ranges: Sequence[Range], table: FlowTable, indexes: Sequence[int]) -> set[int]:
    """Return the flows with an address in one of the networks; frames without addresses have none."""
    src, src_end, dst, dst_end = table.address_words()
    found: set[int] = set()
    for (mask, mask_end), (value, value_end), is_ipv4 in ranges:
        found.update(
            i
            for i in (indexes if is_ipv4 else _ipv6(table, indexes))
            if (src_end[i] & mask_end == value_end and src[i] & mask == value)
            or (dst_end[i] & mask_end == value_end and dst[i] & mask == value)
        )
    return found


def _ipv6(table: FlowTable, indexes: Sequence[int]) -> list[int]:
    """Return the flows whose addresses are IPv6: an IPv6 network's words may match mapped ones and none at all."""
    src, src_end, dst, dst_end = table.address_words()
    mask, value = _MAPPED_RANGE.masks[1], _MAPPED_RANGE.values[1]
    return [
        i for i in indexes if (src[i] or src_end[i] & mask != value) and (src[i] or src_end[i] or dst[i] or dst_end[i])
    ]


def _where(table: FlowTable, holds: Callable[[FlowKey], bool]) -> list[bool]:
    """Return whether something holds of each flow, by index: decided once for all flows of the same kind."""
    fields = (table.column(field) for field in ("ethertype", "protocol", "flags"))
    kinds = [ethertype << 16 | protocol << 8 | flags for ethertype, protocol, flags in zip(*fields, strict=True)]
    wanted = {kind for kind, index in dict(zip(kinds, count())).items() if holds(table[index].key)}
    return [kind in wanted for kind in kinds]


_MAPPED_RANGE = Range(_WORDS.unpack(b"\xff" * len(MAPPED) + bytes(4)), _WORDS.unpack(MAPPED + bytes(4)), True)
"""All IPv4 addresses."""
