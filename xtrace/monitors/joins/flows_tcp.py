"""Mode xdp and the health of TCP connections combined: which connections cross the monitored interfaces, and where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from struct import Struct

from xtrace.kernel import abi
from xtrace.model.flow import EGRESS, KEY, PROTOCOL_TCP, FlowSnapshot, FlowTable
from xtrace.model.tcp import Connection, Ends, Seen, TcpSnapshot
from xtrace.model.words import Health
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay

_PORTS = Struct("=HH")
_ENDS_SIZE = abi.offset("struct flow_key", "src_qpn")
"""A packed key begins with source and destination address, source and destination port."""
_PROTOCOL_OFFSET = abi.offset("struct flow_key", "protocol")
_FLAGS_OFFSET = abi.offset("struct flow_key", "flags")
_SLOT_OFFSET = abi.offset("struct flow_key", "slot")

MOST_KNOWN = 1 << 17
"""Connections remembered as crossing an interface, oldest forgotten first: they may stall, and then send nothing."""


class KeptFlows(Relay[FlowSnapshot]):
    """Mode xdp, which keeps its last interval for JoinedTcp, which ticks after it."""

    def __init__(self, source: Monitor[FlowSnapshot]) -> None:
        super().__init__(source)
        self.last: FlowSnapshot | None = None

    def pass_on(self, snapshot: FlowSnapshot) -> FlowSnapshot:
        """Return the snapshot; its flows can be read until the next tick."""
        self.last = snapshot
        return snapshot


class JoinedTcp(Relay[TcpSnapshot]):
    """The connections that cross mode xdp's interfaces, with their packets there."""

    def __init__(self, tcp: Monitor[TcpSnapshot], flows: KeptFlows) -> None:
        """`flows` must tick before this monitor."""
        super().__init__(tcp)
        self._flows = flows
        self._known: dict[Ends, None] = {}

    def pass_on(self, snapshot: TcpSnapshot) -> TcpSnapshot:
        """Return the snapshot with those connections only: in this interval, or earlier if they are in trouble."""
        flows = self._flows.last
        seen = _seen(snapshot, flows) if flows else {}
        chosen = []
        for index, connection in enumerate(snapshot.connections):
            ends = connection.sample.ends
            if index in seen:
                self._known[ends] = None
                chosen.append(connection._replace(seen=tuple(seen[index])))
            elif ends in self._known and (connection.health is not Health.OK or connection.has_ended):
                chosen.append(connection)
            if connection.has_ended:
                self._known.pop(ends, None)
        while len(self._known) > MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        return replace(snapshot, connections=tuple(chosen))


def _seen(snapshot: TcpSnapshot, flows: FlowSnapshot) -> dict[int, list[Seen]]:
    """Return what crossed the interfaces of each connection, by its index."""
    leaving, arriving = _by_ends(snapshot.connections)
    interfaces = {(interface.slot, interface.direction.bit): interface for interface, _ in flows.interfaces}
    found: defaultdict[int, list[Seen]] = defaultdict(list)
    packets, size = flows.flows.packet_counts, flows.flows.byte_counts
    for place, slot, direction, ends in _tcp_flows(flows.flows):
        index = (leaving if direction else arriving).get(ends)
        interface = interfaces.get((slot, direction)) if index is not None else None
        if index is not None and interface is not None:
            found[index].append(Seen(interface.name, interface.direction, packets[place], size[place]))
    return found


def _by_ends(connections: tuple[Connection, ...]) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Return indexes by the beginning of the key of a connection's packets: of those it sends, those it receives."""
    leaving, arriving = {}, {}
    for index, connection in enumerate(connections):
        local, local_port, remote, remote_port = connection.sample.ends
        leaving[local + remote + _PORTS.pack(local_port, remote_port)] = index
        arriving[remote + local + _PORTS.pack(remote_port, local_port)] = index
    return leaving, arriving


def _tcp_flows(table: FlowTable) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield index, slot, whether it is egress (0 or 1), and the beginning of the key of each TCP flow."""
    protocols = bytes(table.keys[_PROTOCOL_OFFSET :: KEY.size])
    slots, flags = bytes(table.keys[_SLOT_OFFSET :: KEY.size]), bytes(table.keys[_FLAGS_OFFSET :: KEY.size])
    for place, key in enumerate(table.packed_keys()):
        if protocols[place] == PROTOCOL_TCP:
            yield place, slots[place], int(bool(flags[place] & EGRESS)), key[:_ENDS_SIZE]
