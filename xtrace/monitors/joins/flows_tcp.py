"""Mode xdp and the health of TCP connections combined: which connections cross the monitored interfaces, and where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from struct import Struct

from xtrace.kernel import abi
from xtrace.model.flow import EGRESS, KEY, PROTOCOL_TCP, FlowSnapshot, FlowTable
from xtrace.model.tcp import Connection, Ends, Seen, TcpSnapshot
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

    def pass_on(self, snapshot: TcpSnapshot) -> TcpSnapshot:
        """Return the snapshot with those connections only that have crossed an interface by now."""
        flows = self._flows.last
        connections = self._with_early(snapshot.connections)
        seen = _seen(connections, flows) if flows else {}
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


def _seen(connections: tuple[Connection, ...], flows: FlowSnapshot) -> dict[int, list[Seen]]:
    """Return what crossed the interfaces of each connection, by its index."""
    leaving, arriving, elsewhere = _by_ends(connections)
    interfaces = {(interface.slot, interface.direction.bit): interface for interface, _ in flows.interfaces}
    found: defaultdict[int, list[Seen]] = defaultdict(list)
    packets, size = flows.flows.packet_counts, flows.flows.byte_counts
    for place, slot, direction, ends in _tcp_flows(flows.flows):
        index = (leaving if direction else arriving).get(ends)
        others = elsewhere.get(ends, ()) if elsewhere else ()
        interface = interfaces.get((slot, direction)) if index is not None or others else None
        if interface is not None:
            for each in (*others, index):
                if each is not None:
                    found[each].append(Seen(interface.name, interface.direction, packets[place], size[place]))
    return found


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


def _tcp_flows(table: FlowTable) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield index, slot, whether it is egress (0 or 1), and the beginning of the key of each TCP flow."""
    protocols = bytes(table.keys[_PROTOCOL_OFFSET :: KEY.size])
    slots, flags = bytes(table.keys[_SLOT_OFFSET :: KEY.size]), bytes(table.keys[_FLAGS_OFFSET :: KEY.size])
    for place, key in enumerate(table.packed_keys()):
        if protocols[place] == PROTOCOL_TCP:
            yield place, slots[place], int(bool(flags[place] & EGRESS)), key[:_ENDS_SIZE]
