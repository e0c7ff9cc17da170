"""Modes xdp and rdma together: flows learn their queue pairs, ports what the hook saw of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from xtrace.flow import FlowSnapshot
from xtrace.monitors.rdma import RdmaMonitor
from xtrace.monitors.xdp import XdpMonitor
from xtrace.rdma import Seen
from xtrace.roce_origins import RoceOrigins


class JoinedXdp:
    """Mode xdp, which tells mode rdma what it saw, and asks it whose it was."""

    def __init__(self, xdp: XdpMonitor, rdma: RdmaMonitor) -> None:
        self._xdp = xdp
        self._rdma = rdma

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to watch."""
        return self._xdp.ended

    def fileno(self) -> int:
        """Readable when react() has something to do."""
        return self._xdp.fileno()

    def react(self) -> None:
        """Take note of what happened between ticks."""
        self._xdp.react()

    def tick(self) -> FlowSnapshot:
        """End the current interval, start the next."""
        return self._join(self._xdp.tick())

    def finish(self) -> FlowSnapshot:
        """Detach everything, end the last interval."""
        return self._join(self._xdp.finish())

    def close(self) -> None:
        """Release what mode xdp holds."""
        self._xdp.close()

    def _join(self, snapshot: FlowSnapshot) -> FlowSnapshot:
        names = {(interface.slot, interface.egress): interface for interface, _ in snapshot.interfaces}
        packets: Counter[tuple[str, str]] = Counter()
        sizes: Counter[tuple[str, str]] = Counter()
        leaving = []
        for flow in snapshot.flows.roce():
            interface = names.get((flow.key.slot, bool(flow.key.flags & 1)))
            if interface is None:
                continue
            where = (interface.name, "tx" if interface.egress else "rx")
            packets[where] += flow.packets
            sizes[where] += flow.bytes
            if interface.egress:
                leaving.append(flow)
        watched = {(interface.name, "tx" if interface.egress else "rx") for interface in names.values()}
        self._rdma.note_seen({where: Seen(packets[where], sizes[where]) for where in watched})
        origins = RoceOrigins(self._rdma.queue_pairs_seen(), self._rdma.netdevs(), leaving)
        return replace(snapshot, find_origin=origins.find)
