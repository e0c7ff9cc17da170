"""Mode xdp: every flow that crosses the chosen interfaces, interval by interval."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from xtrace.kernel import features, privileges
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.kernel.rtnetlink import LinkEvents
from xtrace.messages import Say
from xtrace.model.filters import Filters, describe
from xtrace.model.flow import FlowSnapshot, Interface, InterfaceCounts
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.words import Direction
from xtrace.monitors.flows.attach import Attacher, Choice
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.roster import Roster
from xtrace.monitors.flows.tables import Drained, FlowTables, Plan
from xtrace.monitors.flows.watched import Watched

log = logging.getLogger(__name__)

OPEN_SLOTS = 64
"""Interfaces that can be monitored at once beside those that are named, where any or a glob asks for more."""

MOST_SLOTS = 256
"""A slot is a byte of the flow key."""

CLOCK_READINGS = 3


@dataclass(frozen=True)
class XdpOptions:
    """What the user asked for."""

    selection: Selection
    choice: Choice
    directions: tuple[Direction, ...] = (Direction.INGRESS,)
    max_flows: int = 65536
    filters: Filters = field(default_factory=Filters)


class XdpMonitor:
    """Counts what crosses the interfaces, from its creation on. Which they are is the roster's business."""

    mode = "xdp"

    def __init__(self, options: XdpOptions, say: Say, check: Callable[[], None] = lambda: None) -> None:
        """Attach to the interfaces. `check` is called before each, and may raise to abandon the start."""
        privileges.require(privileges.XDP_NEEDS, "mode xdp")
        privileges.raise_memlock_limit()
        self._options = options
        self.ended = False
        with ExitStack() as opening:
            # notifications first: what changes while the first interfaces are attached is not missed
            self._events = opening.enter_context(LinkEvents())
            netlink = opening.enter_context(NetlinkSocket(NETLINK_ROUTE))
            self.features = features.probe()
            named = 2 * len(options.selection.names)
            slots = min(named + OPEN_SLOTS if options.selection.is_open else named, MOST_SLOTS)
            self._tables = FlowTables(Plan.make(options.max_flows, slots), self.features, options.filters)
            opening.callback(self._tables.close)
            attacher = Attacher(netlink, self._tables, options.choice, say)
            self._roster = Roster(options.selection, options.directions, slots, attacher, netlink, self._events, say)
            opening.callback(self._roster.detach_all)
            self._start_ns = time.monotonic_ns()
            self._roster.attach_first(check)
            self._opened = opening.pop_all()

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """What is monitored now, per direction."""
        watched_now = (watched for watched in self._roster.watched if not watched.lost)
        return tuple(interface for watched in watched_now for interface in watched.interfaces())

    @property
    def setup(self) -> FlowSetup:
        """Hooks, kernel features in use, filters, sizes."""
        return FlowSetup(
            map_memory=self._tables.memory(),
            interfaces=self.interfaces,
            features=tuple(self.features.names()),
            filters=tuple(describe(self._options.filters)),
            max_flows=self._options.max_flows,
        )

    def fileno(self) -> int:
        """Readable when interfaces changed; then react() is to be called."""
        return self._events.fileno()

    def react(self) -> None:
        """Follow the interfaces: attach to those that came, take leave of those that went."""
        self._roster.react()

    def tick(self) -> FlowSnapshot:
        """End the current interval, start the next."""
        self._roster.react()
        self._roster.notice_detached()
        if self._roster.has_lost:
            # a program that began before it was detached must not run into the next buffer
            self._tables.wait_grace_period()
        self._roster.sample()
        snapshot = self._snapshot(self._tables.take())
        self._roster.drained()
        return snapshot

    def finish(self) -> FlowSnapshot:
        """Detach, end the last interval."""
        self._roster.detach_all()
        self.ended = True
        self._roster.sample()
        return self._snapshot(self._tables.finish())

    def close(self) -> None:
        """Detach and release everything."""
        self.ended = True
        self._opened.close()

    def _snapshot(self, drained: Drained) -> FlowSnapshot:
        interfaces = tuple(
            (interface, self._counts(drained, watched, interface))
            for watched in self._roster.watched
            for interface in watched.interfaces()
        )
        check_sums(drained)
        # one pair of readings of both clocks serves the interval's end and the records' times
        monotonic_to_wall = wall_offset()
        snapshot = FlowSnapshot(
            end_ns=drained.end_monotonic_ns + monotonic_to_wall,
            interval_ns=drained.end_monotonic_ns - self._start_ns,
            start_monotonic_ns=self._start_ns,
            record_offset_ns=self._tables.clock_offset(),
            wall_offset_ns=monotonic_to_wall,
            flows=drained.flows,
            interfaces=interfaces,
            grace_ns=self._tables.grace_ns,
            drain_ns=self._tables.drain_ns,
        )
        self._start_ns = drained.end_monotonic_ns
        return snapshot

    def _counts(self, drained: Drained, watched: Watched, interface: Interface) -> InterfaceCounts:
        """One interface's counts, with its own interval where it came or went within this one."""
        direction = interface.direction
        counts = drained.counts.get((watched.slot, direction), InterfaceCounts())
        counts = replace(counts, nic=watched.coverage.passed(direction))
        if interface.units == "wire":  # merged packets are fewer than those the interface counted
            watched.coverage.compare(direction, counts.total, drained.end_monotonic_ns)
        since_ns = watched.attached[direction].since_ns
        if since_ns <= self._start_ns and watched.until_ns is None:
            return counts
        start = max(since_ns, self._start_ns)
        until = min(watched.until_ns or drained.end_monotonic_ns, drained.end_monotonic_ns)
        return replace(counts, interval_ns=max(until - start, 1))


def wall_offset() -> int:
    """What to add to CLOCK_MONOTONIC for wall clock ns, by the closest of some readings: any may be interrupted."""
    readings = []
    for _ in range(CLOCK_READINGS):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]


def check_sums(drained: Drained) -> None:
    """The promise, checked in every interval: a tool that miscounts must say so."""
    for (slot, direction), counts in drained.counts.items():
        indexes = drained.flows.indexes(slot, direction)
        counted = drained.flows.sum(indexes) + counts.unattributed_total + counts.filtered
        if counted != counts.total:
            missing = counts.total - counted
            where = f"slot {slot} {direction}"
            log.error("%s: counts do not add up: %d packets, %d bytes missing", where, *missing)
