"""Mode xdp: every flow on the selected interfaces, interval by interval."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from xtrace.errors import XtraceError
from xtrace.messages import Say
from xtrace.model.filters import describe
from xtrace.model.flow import FlowSnapshot, Interface, InterfaceCounts, PacketCount, TickClock
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.words import Direction
from xtrace.monitors.buffers import Ended
from xtrace.monitors.flows.attach import Attacher
from xtrace.monitors.flows.roster import Roster, RosterState, Way
from xtrace.monitors.flows.start import XdpStart
from xtrace.monitors.flows.tables import Drained
from xtrace.monitors.flows.wakeups import Wakeups
from xtrace.monitors.flows.watched import Watched
from xtrace.monitors.wall import wall_offset

if TYPE_CHECKING:
    from xtrace.monitors.owners.opening import Owners
    from xtrace.monitors.paths.follower import TcpFollower

log = logging.getLogger(__name__)


class XdpMonitor:
    """Counts the packets on the interfaces from its creation on. The roster decides which these are."""

    mode = "xdp"

    def __init__(self, start: XdpStart, report: Say, check: Callable[[], None] = lambda: None) -> None:
        """Attach to the interfaces; `start` is the monitor's from now on.

        `check` is called before each, and may raise to abandon the start.
        """
        self._options = options = start.options
        self._tables, self.features = start.tables, start.features
        self.ended = False
        self._interval: Ended | None = None
        """that has ended and was not read yet"""
        self._state: RosterState
        """of the interfaces, when that interval ended"""
        with ExitStack() as opening:
            opening.callback(start.close)
            self._owners: Owners | None = None
            if options.owners:
                self._owners = self._find_owners(opening, report)
                self._tables.expect(start.first_programs())
            if options.tcp_packets:
                self._follow_tcp(report)
            self._wakeups = opening.enter_context(closing(Wakeups(start.events.fileno())))
            attacher = Attacher(start.netlink, self._tables, options.choice)
            way = Way(options.directions, options.promiscuous)
            self._roster = Roster(options.selection, way, start.slots, attacher, start.netlink, start.events, report)
            opening.callback(self._roster.detach_all)
            self._start_ns = time.monotonic_ns()
            self._roster.attach_first(check)
            self._tables.expect_nothing()
            self._opened = opening.pop_all()

    def _find_owners(self, opening: ExitStack, report: Say) -> Owners | None:
        from xtrace.monitors.owners.opening import find_owners

        return opening.enter_context(find_owners(self._tables, report))

    def _follow_tcp(self, report: Say) -> None:
        try:
            self._tables.follow_tcp(max(self._options.max_flows // 2, 1))
        except XtraceError as error:
            report(f"--tcp-packets: {error}: TCP connections are not followed")

    @property
    def tcp_follower(self) -> TcpFollower | None:
        """What follows TCP connections; None: nothing does."""
        return self._tables.tcp_follower

    def names(self) -> dict[tuple[int, int], str]:
        """Return the names of the interfaces that are, or were until now, monitored, by slot and ifindex."""
        return {(watched.slot, watched.index): watched.name for watched in self._roster.watched}

    def clock(self) -> TickClock:
        """The kernel's tick now."""
        return self._tables.clock()

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The monitored interfaces, per direction."""
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
            has_owners=self._owners is not None,
        )

    def fileno(self) -> int:
        """Readable when interfaces changed, and every second: call react() then."""
        return self._wakeups.fileno()

    def react(self) -> None:
        """Attach to interfaces that appeared, release those that disappeared, replace programs detached by others."""
        self._wakeups.acknowledge()
        self._follow()

    def _follow(self) -> None:
        self._roster.react()
        self._roster.notice_detached()
        self._roster.retry()

    def flip(self, last: bool = False) -> None:
        """End the current interval, and start the next or detach."""
        if last:
            self._roster.notice_detached()
            self._state = self._roster.state()
            self._roster.sample_queues()
            self._roster.detach_all()
            self.ended = True
        else:
            self._follow()
            if self._roster.has_lost:
                # a program that started before it was detached must not count into the next buffer
                self._tables.wait_grace_period()
        self._roster.sample()
        if not last:
            self._roster.sample_queues()
        self._interval = self._tables.flip(last)

    def tick(self) -> FlowSnapshot:
        """Return the snapshot of the interval that flip() ended, or of one that ends now."""
        if self._interval is None:
            self.flip()
        self._state = self._roster.state()
        snapshot = self._snapshot()
        self._roster.drained()
        return snapshot

    def finish(self) -> FlowSnapshot:
        """Return the snapshot of the last interval."""
        if not self.ended:
            self.flip(last=True)
        return self._snapshot()

    def close(self) -> None:
        """Detach and release everything."""
        self.ended = True
        self._opened.close()

    def _snapshot(self) -> FlowSnapshot:
        assert self._interval is not None
        drained, self._interval = self._tables.collect(self._interval), None
        state = self._state
        interfaces = tuple(
            (interface, self._counts(drained, watched, interface))
            for watched in self._roster.watched
            for interface in watched.interfaces()
        )
        check_sums(drained)
        if self._owners:
            self._owners.translations.name(drained.flows)
        # the interval's end and the records' times use the same pair of clock readings
        monotonic_to_wall = wall_offset()
        snapshot = FlowSnapshot(
            end_ns=drained.end_monotonic_ns + monotonic_to_wall,
            interval_ns=drained.end_monotonic_ns - self._start_ns,
            start_monotonic_ns=self._start_ns,
            clock=self._tables.clock(),
            wall_offset_ns=monotonic_to_wall,
            flows=drained.flows,
            interfaces=interfaces,
            grace_ns=self._tables.grace_ns,
            drain_ns=self._tables.drain_ns,
            attached=state.attached,
            unattached=state.unattached,
            reattached=state.reattached,
            name_owner=self._owners.names.of if self._owners else None,
        )
        self._start_ns = drained.end_monotonic_ns
        return snapshot

    def _counts(self, drained: Drained, watched: Watched, interface: Interface) -> InterfaceCounts:
        """One interface's counts, with its own interval if it was attached or detached within this one."""
        direction = interface.direction
        counts = drained.counts.get((watched.slot, direction), InterfaceCounts())
        counts = replace(counts, nic=watched.coverage.passed(direction))
        since_ns = watched.attached[direction].since_ns
        start = max(since_ns, self._start_ns)
        until = min(watched.until_ns or drained.end_monotonic_ns, drained.end_monotonic_ns)
        length_ns = max(until - start, 1)
        dropped = watched.queue.dropped if direction is Direction.EGRESS else None
        merged = interface.units == "frame"
        passed = without(counts.total, dropped or 0)
        share = watched.coverage.compare(direction, passed, length_ns, merged=merged)
        counts = replace(counts, coverage=share, qdisc_drops=dropped)
        if since_ns <= self._start_ns and watched.until_ns is None:
            return counts
        return replace(counts, interval_ns=length_ns)


def without(seen: PacketCount, dropped: int) -> PacketCount:
    """What is left of packets of average size when some are dropped."""
    left = max(seen.packets - dropped, 0)
    return PacketCount(left, seen.bytes * left // seen.packets if seen.packets else 0)


def check_sums(drained: Drained) -> None:
    """Check the promise in every interval; log an error where it is broken."""
    for (slot, direction), counts in drained.counts.items():
        counted = sum(counts.in_no_flow.values(), drained.flows.place(slot, direction).sum)
        if counted != counts.total:
            missing = counts.total - counted
            where = f"slot {slot} {direction}"
            log.error("%s: counts do not add up: %d packets, %d bytes missing", where, *missing)
