"""Mode xdp and the health of TCP connections combined: which connections cross the monitored interfaces, and where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from struct import Struct
from typing import NamedTuple

from xtrace.kernel import abi
from xtrace.model.flow import EGRESS, ENTRY, PROTOCOL_TCP, FlowSnapshot, Interface
from xtrace.model.tcp import Connection, Ends, Seen, TcpSnapshot
from xtrace.model.words import Direction
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay
from xtrace.monitors.tcp.peers import Monitored

_PORTS = Struct("=HH")
_ENDS_SIZE = abi.offset("struct flow_key", "src_qpn")
"""A packed key begins with source and destination address, source and destination port."""
_PROTOCOL_OFFSET = abi.offset("struct flow_key", "protocol")
_FLAGS_OFFSET = abi.offset("struct flow_key", "flags")
_SLOT_OFFSET = abi.offset("struct flow_key", "slot")

MOST_KNOWN = 1 << 17
"""Connections remembered as crossing an interface, oldest forgotten first: they may stall, and then send nothing."""


Key = tuple[int, Ends]
"""Of a connection: its namespace and its ends."""


class Crossing(NamedTuple):
    """What one TCP flow carried across an interface."""

    ends: bytes
    """the beginning of its key"""
    interface: Interface
    packets: int
    bytes: int


class KeptFlows(Relay[FlowSnapshot]):
    """Mode xdp, which keeps its last interval for JoinedTcp, which ticks after it."""

    def __init__(self, source: Monitor[FlowSnapshot], monitored: Monitored) -> None:
        """`monitored` is told the names of the interfaces."""
        super().__init__(source)
        self._monitored = monitored
        self.last: FlowSnapshot | None = None

    def pass_on(self, snapshot: FlowSnapshot) -> FlowSnapshot:
        """Return the snapshot; its flows can be read until the next tick."""
        self.last = snapshot
        self._monitored.names = tuple({interface.name: None for interface, _ in snapshot.interfaces})
        return snapshot


class JoinedTcp(Relay[TcpSnapshot]):
    """The connections that cross mode xdp's interfaces, with their packets there."""

    def __init__(self, tcp: Monitor[TcpSnapshot], flows: KeptFlows) -> None:
        """`flows` must tick before this monitor."""
        super().__init__(tcp)
        self._flows = flows
        self._known: dict[Key, None] = {}
        self._early: dict[Key, Connection] = {}
        """began or ended between the end of an interval of flows and the reading: their packets are in the next"""
        self._crossed: list[Crossing] = []
        """in intervals in which there was no reading in time, and what the late one had no connection for"""
        self._is_late = False

    def missed(self) -> None:
        """Keep what crossed the interfaces for the reading that comes later."""
        self._is_late = True
        if self._flows.last:
            self._crossed += crossings(self._flows.last)
            del self._crossed[:-MOST_KNOWN]

    def pass_on(self, snapshot: TcpSnapshot) -> TcpSnapshot:
        """Return the snapshot with those connections only that have crossed an interface by now."""
        connections = self._with_early(snapshot.connections)
        now = crossings(self._flows.last) if self._flows.last else iter(())
        unmatched: list[Crossing] = []
        seen = _seen(connections, chain(self._crossed, now), unmatched.append if self._is_late else None)
        # sockets were read before the last of these intervals ended: the next reading has its connections
        self._crossed = unmatched[-MOST_KNOWN:]
        self._is_late = False
        early, self._early = self._early, {}
        chosen = []
        for index, connection in enumerate(connections):
            ends = connection.netns, connection.sample.ends
            if index in seen or ends in self._known:
                self._known[ends] = None
                chosen.append(connection._replace(seen=tuple(seen.get(index, ()))))
            elif (connection.is_new or connection.has_ended) and ends not in early:
                self._early[ends] = connection
            if connection.has_ended:
                self._known.pop(ends, None)
        for memory in (self._known, self._early):
            while len(memory) > MOST_KNOWN:
                memory.pop(next(iter(memory)))
        return replace(snapshot, connections=tuple(chosen))

    def _with_early(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        """Return those of this reading, which continue what was early, and what was early and is no more."""
        if not self._early:
            return connections
        early = dict(self._early)
        continued = []
        for connection in connections:
            before = None if connection.is_new else early.pop((connection.netns, connection.sample.ends), None)
            continued.append(_continued(before, connection) if before else connection)
        return (*early.values(), *continued)


def _continued(before: Connection, now: Connection) -> Connection:
    """Return a connection over both intervals."""
    growth = (None if None in each else sum(filter(None, each)) for each in zip(before.growth, now.growth, strict=True))
    return now._replace(is_new=before.is_new, growth=tuple(growth))


def _seen(
    connections: tuple[Connection, ...], crossed: Iterable[Crossing], keep: Callable[[Crossing], None] | None
) -> dict[int, list[Seen]]:
    """Return what crossed the interfaces of each connection, by its index. `keep` gets what is of no connection."""
    leaving, arriving, elsewhere = _by_ends(connections)
    found: defaultdict[int, dict[tuple[str, Direction], Seen]] = defaultdict(dict)
    for crossing in crossed:
        ends, interface, packets, size = crossing
        index = (leaving if interface.direction is Direction.EGRESS else arriving).get(ends)
        matched = elsewhere.get(ends, ()) if index is None else (*elsewhere.get(ends, ()), index)
        if not matched and keep:
            keep(crossing)
        for each in matched:
            where = interface.name, interface.direction
            before = found[each].get(where, Seen(*where, 0, 0))
            found[each][where] = Seen(*where, before.packets + packets, before.bytes + size)
    return {index: list(seen.values()) for index, seen in found.items()}


def _by_ends(
    connections: tuple[Connection, ...],
) -> tuple[dict[bytes, int], dict[bytes, int], dict[bytes, list[int]]]:
    """Return indexes by the beginning of the key of a connection's packets: of those it sends, those it receives.

    The third is of connections in other namespaces, both ways: what they send enters the veth that leads there.
    """
    leaving, arriving = {}, {}
    elsewhere: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, connection in enumerate(connections):
        local, local_port, remote, remote_port = connection.sample.ends
        sent = local + remote + _PORTS.pack(local_port, remote_port)
        received = remote + local + _PORTS.pack(remote_port, local_port)
        if connection.is_local:
            leaving[sent] = arriving[received] = index
        else:
            elsewhere[sent].append(index)
            elsewhere[received].append(index)
    return leaving, arriving, dict(elsewhere)


def crossings(snapshot: FlowSnapshot) -> Iterator[Crossing]:
    """Yield what each TCP flow carried across its interface in one interval."""
    table = snapshot.flows
    interfaces = {(interface.slot, interface.direction.bit): interface for interface, _ in snapshot.interfaces}
    protocols = bytes(table.entries[_PROTOCOL_OFFSET :: ENTRY.size])
    slots, flags = bytes(table.entries[_SLOT_OFFSET :: ENTRY.size]), bytes(table.entries[_FLAGS_OFFSET :: ENTRY.size])
    packets, size = table.packet_counts, table.byte_counts
    for place, key in enumerate(table.packed_keys()):
        if protocols[place] == PROTOCOL_TCP:
            interface = interfaces.get((slots[place], flags[place] & EGRESS))
            if interface is not None:
                yield Crossing(key[:_ENDS_SIZE], interface, packets[place], size[place])
