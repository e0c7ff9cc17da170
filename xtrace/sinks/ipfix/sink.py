"""The sink of --ipfix: hands copies of each interval's flows to the exporter."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace

from xtrace.model.flow import FlowSnapshot, InterfaceCounts
from xtrace.model.snapshot import Snapshot
from xtrace.sinks import Run
from xtrace.sinks.ipfix.exporter import Exporter, Interval
from xtrace.sinks.ipfix.link import Tcp, Udp
from xtrace.sinks.ipfix.records import sums
from xtrace.sinks.registry import Totals

log = logging.getLogger(__name__)

KINDS: dict[str, type[Udp] | type[Tcp]] = {"udp": Udp, "tcp": Tcp}


class Ipfix:
    """The Sink of mode xdp's flows; other modes have no records."""

    def __init__(self, protocol: str, host: str, port: int, biflow: bool = False) -> None:
        """`protocol`: one of KINDS."""
        self._shown = f"{host}:{port}"
        self._exporter = Exporter(KINDS[protocol], (host, port), biflow)
        self._counts = InterfaceCounts()
        self.unsent = False
        """after close(): whether flows were lost"""

    def start(self, run: Run) -> None:
        """Start the exporter."""
        self._exporter.start(run.interval_s)

    def write(self, snapshot: Snapshot) -> None:
        """Queue an interval's flows, copied: the drain's buffers are used again."""
        if not isinstance(snapshot, FlowSnapshot):
            return
        self._counts += sums(snapshot)
        copy = replace(snapshot, flows=snapshot.flows.copy(), find_origin=None)
        indexes = {interface.slot: index_of(interface.name) for interface, _ in snapshot.interfaces}
        names = {indexes[interface.slot]: interface.name for interface, _ in snapshot.interfaces}
        self._exporter.submit(Interval(copy, names, indexes, self._counts))

    def flush(self) -> None:
        """Do nothing: intervals are queued at once."""

    def end(self, totals: Totals) -> None:
        """Do nothing: close() sends the rest."""

    def close(self, limit_s: float) -> None:
        """Send what is queued for at most `limit_s`; log what was not sent."""
        unsent = self._exporter.close(limit_s)
        if unsent.flows:
            self.unsent = True
            log.error("ipfix to %s: ended; not sent: %d flows, %d packets", self._shown, unsent.flows, unsent.packets)


def index_of(name: str) -> int:
    """Return an interface's index in the kernel; 0 if it is gone."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
