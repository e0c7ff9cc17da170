"""Modes xdp and rdma combined: flows get their queue pairs, ports the traffic that the hooks saw.

Mode xdp alone reads the RDMA ports of its interfaces too, to report what it cannot see.
"""

from __future__ import annotations

from dataclasses import replace

from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot
from xtrace.model.rdma import RdmaSnapshot, Seen
from xtrace.model.roce_origins import RoceOrigins
from xtrace.model.words import Direction
from xtrace.monitors import Monitor
from xtrace.monitors.rdma.monitor import RdmaMonitor
from xtrace.monitors.relay import Relay


class JoinedXdp(Relay[FlowSnapshot]):
    """Mode xdp, which reports RoCE traffic to mode rdma and looks up flows there. It does not close `rdma`."""

    def __init__(
        self, xdp: Monitor[FlowSnapshot], rdma: RdmaMonitor, *, readings: Monitor[RdmaSnapshot] | None = None
    ) -> None:
        """`readings`: those of `rdma`, if it is no mode of its own; it then only reports what is invisible."""
        super().__init__(xdp)
        self._rdma = rdma
        self._readings = readings

    def pass_on(self, snapshot: FlowSnapshot) -> FlowSnapshot:
        """Return the snapshot with a lookup of RoCE flows."""
        leaving = self._note_seen(snapshot)
        if self._readings is not None:
            if not self._rdma.reported_invisible:
                self._readings.tick()
            return snapshot
        origins = RoceOrigins(self._rdma.queue_pairs_seen(), self._rdma.netdevs(), leaving)
        return replace(snapshot, find_origin=origins.find)

    def _note_seen(self, snapshot: FlowSnapshot) -> list[FlowRecord]:
        """Pass RoCE traffic by interface and direction to mode rdma; return the egress flows."""
        interfaces = {(interface.slot, interface.direction.bit): interface for interface, _ in snapshot.interfaces}
        seen = {(interface.name, interface.direction): Seen(0, 0) for interface in interfaces.values()}
        leaving = []
        for flow in snapshot.flows.roce():
            interface = interfaces.get((flow.key.slot, flow.key.flags & EGRESS))
            if interface is None:
                continue
            where = (interface.name, interface.direction)
            before = seen[where]
            seen[where] = Seen(before.packets + flow.packets, before.bytes + flow.bytes)
            if interface.direction is Direction.EGRESS:
                leaving.append(flow)
        self._rdma.note_seen(seen)
        return leaving
