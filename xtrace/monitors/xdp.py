"""Mode xdp: every flow that crosses an interface."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from xtrace.flow import Interface, InterfaceCounts, Snapshot
from xtrace.kernel import constants, features, privileges
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.messages import message
from xtrace.monitors.attach import attach, refuse_if_owned
from xtrace.monitors.tables import Drained, FlowTables, Plan

log = logging.getLogger(__name__)

SLOT = 0


class XdpMonitor:
    """Counts what enters one interface, from its creation on."""

    def __init__(
        self, netlink: NetlinkSocket, link: LinkInfo, *, mode: str, max_flows: int, say: Callable[[str], None]
    ) -> None:
        privileges.require(privileges.XDP_NEEDS, "mode xdp")
        refuse_if_owned(link)
        say(message("Preparing to monitor network interface: {}", link.name))
        privileges.raise_memlock_limit()
        with ExitStack() as opening:
            self.features = features.probe()
            self._tables = FlowTables(Plan.make(max_flows), self.features)
            opening.callback(self._tables.close)
            flags = constants.PROG_HAS_FRAGS if self.features.frags else 0
            # the link keeps the program alive; its descriptor is not needed any more
            with self._tables.load("xdp_ingress", slot=SLOT, flags=flags) as program:
                self._attachment = attach(netlink, link, program, mode, self.features.frags, say)
            opening.pop_all()
        self._start_ns = time.monotonic_ns()
        self.ended = False
        self.interface = Interface(link.name, SLOT, "xdp", self._attachment.mode)
        how = self._attachment.mode + (", frags" if self._attachment.frags else "")
        say(message("XDP program loaded on {}", link.name) + f" ({how})")

    @property
    def map_memory(self) -> int:
        """Bytes of kernel memory all maps take."""
        return self._tables.memory()

    @property
    def grace_ns(self) -> int:
        """How long the last grace period took."""
        return self._tables.grace_ns

    def tick(self) -> Snapshot:
        """End the current interval, start the next; the last one where the interface is gone."""
        if not self._attachment.link.ifindex():
            return self.finish()
        return self._snapshot(self._tables.take())

    def finish(self) -> Snapshot:
        """Detach, end the last interval."""
        lost = () if self._attachment.link.ifindex() else (self.interface.name,)
        self._attachment.close()
        self.ended = True
        return self._snapshot(self._tables.finish(), lost)

    def close(self) -> None:
        """Detach and release everything."""
        if not self.ended:
            self._attachment.close()
            self.ended = True
        self._tables.close()

    def _snapshot(self, drained: Drained, lost: tuple[str, ...] = ()) -> Snapshot:
        counts = drained.counts.get((SLOT, False), InterfaceCounts())
        self._check_sums(drained, counts)
        # one pair of readings of both clocks serves the interval's end and the records' times
        monotonic_to_wall = time.time_ns() - time.monotonic_ns()
        snapshot = Snapshot(
            end_ns=drained.end_monotonic_ns + monotonic_to_wall,
            interval_ns=drained.end_monotonic_ns - self._start_ns,
            start_monotonic_ns=self._start_ns,
            record_offset_ns=self._tables.clock_offset(),
            wall_offset_ns=monotonic_to_wall,
            flows=drained.flows,
            interfaces=((self.interface, counts),),
            lost_interfaces=lost,
        )
        self._start_ns = drained.end_monotonic_ns
        return snapshot

    def _check_sums(self, drained: Drained, counts: InterfaceCounts) -> None:
        """The promise, checked in every interval: a tool that miscounts must say so."""
        packets, size = sum(drained.flows.packet_counts), sum(drained.flows.byte_counts)
        accounted = counts.unattributed_total + counts.filtered
        missing = (counts.total.packets - packets - accounted.packets, counts.total.bytes - size - accounted.bytes)
        if any(missing):
            log.error("%s: counts do not add up: %d packets, %d bytes missing", self.interface.name, *missing)
