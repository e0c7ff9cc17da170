"""What is shown of an interval: flows, connections and names selected in user space, as the kernel's filters would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from xtrace.model.filters import Filters
from xtrace.model.flow import FlowTable
from xtrace.model.tcp import Sample
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
        """Return those of `indexes` whose flows match."""
        for holds in _conditions(self.filters, table):
            indexes = [index for index in indexes if holds(index)]
        return indexes

    def connection(self, sample: Sample) -> bool:
        """Return whether a TCP connection matches."""
        filters = self.filters
        ports = {sample.local_port, sample.remote_port}
        ends = [_WORDS.unpack(sample.local), _WORDS.unpack(sample.remote)]
        return (
            (not filters.types or "TCP" in filters.types)
            and (not filters.ports or not ports.isdisjoint(filters.ports))
            and not (filters.exclude_dns and DNS_PORT in ports)
            and (not filters.networks or _touch(_ranges(filters.networks), ends))
            and not _touch(_ranges(filters.excluded_networks), ends)
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


def _conditions(filters: Filters, table: FlowTable) -> Iterator[Callable[[int], bool]]:
    """Yield what a flow must meet, by its index. All read columns: a table may have very many flows."""
    kinds = _Kinds(table)
    if filters.types:
        yield lambda index: kinds[index][0] in filters.types
    sources, destinations = table.column("src_port"), table.column("dst_port")
    if filters.ports:
        yield lambda index: sources[index] in filters.ports or destinations[index] in filters.ports
        yield lambda index: kinds[index][1]
    if filters.exclude_dns:
        yield lambda index: (sources[index] != DNS_PORT and destinations[index] != DNS_PORT) or not kinds[index][1]
    if filters.networks:
        yield _in_networks(filters.networks, table)
    if filters.excluded_networks:
        touches = _in_networks(filters.excluded_networks, table)
        yield lambda index: not touches(index)


def _in_networks(networks: Sequence[Network], table: FlowTable) -> Callable[[int], bool]:
    """Return whether source or destination is in one of the networks; frames without addresses are in none."""
    ranges, words = _ranges(networks), table.address_words()

    def touches(index: int) -> bool:
        source, source_end, destination, destination_end = (column[index] for column in words)
        ends = (source, source_end), (destination, destination_end)
        return ends != _NO_ADDRESSES and _touch(ranges, ends)

    return touches


_NO_ADDRESSES = ((0, 0), (0, 0))


class _Kinds(dict[int, tuple[str, bool]]):
    """Traffic type of a flow, and whether it has ports, by its index: of each combination only once by its key."""

    def __init__(self, table: FlowTable) -> None:
        super().__init__()
        self._table = table
        self._columns = [table.column(field) for field in ("ethertype", "protocol", "flags")]

    def __getitem__(self, index: int) -> tuple[str, bool]:
        ethertype, protocol, flags = (column[index] for column in self._columns)
        combined = ethertype << 16 | protocol << 8 | flags
        found = self.get(combined)
        if found is None:
            key = self._table[index].key
            found = self[combined] = key.traffic_type, has_ports(key)
        return found
