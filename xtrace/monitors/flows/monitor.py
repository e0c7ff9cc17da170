"""Mode xdp: every flow that crosses the chosen interfaces."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from xtrace.errors import InterfaceError, KernelError, PrivilegeError, XtraceError
from xtrace.kernel import features, privileges, rtnetlink
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo, parse_link
from xtrace.messages import Say, message
from xtrace.model.filters import Filters
from xtrace.model.flow import FlowSnapshot, Interface, InterfaceCounts
from xtrace.model.words import Direction
from xtrace.monitors.flows.attach import OFF, Attacher, Choice
from xtrace.monitors.flows.coverage import Coverage
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.tables import Drained, FlowTables, Plan
from xtrace.monitors.flows.watched import Watched

log = logging.getLogger(__name__)

OPEN_SLOTS = 64
"""Interfaces that can be monitored at once beside those that are named, where any or a glob asks for more."""

MOST_SLOTS = 256
"""A slot is a byte of the flow key."""

RTMGRP_LINK = 1
RTM_NEWLINK, RTM_DELLINK = 16, 17
"""linux/rtnetlink.h"""

CLOCK_READINGS = 3

GONE = "the interface is gone"
MOVED = "the interface moved to another network namespace"


@dataclass(frozen=True)
class XdpOptions:
    """What the user asked for."""

    selection: Selection
    choice: Choice
    directions: tuple[Direction, ...] = (Direction.INGRESS,)
    max_flows: int = 65536
    filters: Filters = field(default_factory=Filters)


class XdpMonitor:
    """Counts what crosses the interfaces, from its creation on; follows them as they come and go."""

    def __init__(self, options: XdpOptions, say: Say) -> None:
        privileges.require(privileges.XDP_NEEDS, "mode xdp")
        privileges.raise_memlock_limit()
        self._options = options
        self._say = say
        self._watched: list[Watched] = []
        self._refused: dict[int, bool] = {}
        """interfaces that could not be attached to, by index: whether they were up"""
        self._waiting: set[int] = set()
        """interfaces that were refused for want of a slot, by index"""
        self._lost_slots: set[int] = set()
        """those of programs that could not be detached, and count on"""
        self._is_stale = False
        """whether events were lost, or interfaces could not be asked for"""
        self.ended = False
        with ExitStack() as opening:
            # notifications first: what changes while the first interfaces are attached is not missed
            self._events = opening.enter_context(NetlinkSocket(NETLINK_ROUTE, RTMGRP_LINK))
            self._netlink = opening.enter_context(NetlinkSocket(NETLINK_ROUTE))
            self.features = features.probe()
            named = 2 * len(options.selection.names)
            slots = min(named + OPEN_SLOTS if options.selection.is_open else named, MOST_SLOTS)
            self._tables = FlowTables(Plan.make(options.max_flows, slots), self.features, options.filters)
            opening.callback(self._tables.close)
            self._attacher = Attacher(self._netlink, self._tables, options.choice, say)
            opening.callback(self._detach_all)
            self._start_ns = time.monotonic_ns()
            self._attach_first()
            self._opened = opening.pop_all()

    def _attach_first(self) -> None:
        links = rtnetlink.links(self._netlink)
        chosen = [link for link in links if self._options.selection.takes(link)]
        if left_out := self._options.selection.left_out(links):
            names = ",".join(left_out)
            self._say(
                f"-i any leaves out {names}: of a bridge's ports is seen what the bridge itself receives, not what they"
                f" forward to each other; -i any,{names} takes them, too"
            )
        there_are = ", ".join(link.name for link in links)
        missing = self._options.selection.missing(links)
        advice = "it is watched as soon as it comes" if chosen else "choose one with -i"
        failures: list[XtraceError] = [
            InterfaceError(f"interface {name} not found: there are {there_are}; {advice}") for name in missing
        ]
        if not chosen and not missing:
            raise InterfaceError(self._options.selection.nothing_chosen(links))
        failures += [error for link in chosen if (error := self._try_watch(link)) is not None]
        attached = not all(watched.lost for watched in self._watched)
        if not attached and len(failures) == 1:
            raise failures[0]
        for failure in failures:
            log.error("%s", failure)
        if not attached:
            privilege = next((failure for failure in failures if isinstance(failure, PrivilegeError)), None)
            raise privilege or InterfaceError("no interface could be attached to: see -l for those there are")

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """What is monitored now, per direction."""
        watched_now = (watched for watched in self._watched if not watched.lost)
        return tuple(interface for watched in watched_now for interface in watched.interfaces())

    @property
    def map_memory(self) -> int:
        """Bytes of kernel memory all maps take."""
        return self._tables.memory()

    @property
    def grace_ns(self) -> int:
        """How long the last grace period took."""
        return self._tables.grace_ns

    def fileno(self) -> int:
        """Readable when interfaces changed; then react() is to be called."""
        return self._events.fileno()

    def react(self) -> None:
        """Follow the interfaces: attach to those that came, take leave of those that went."""
        try:
            for kind, payload in self._events.notifications():
                if kind in (RTM_NEWLINK, RTM_DELLINK):
                    self._happened(kind, parse_link(payload))
        except KernelError as error:
            log.debug("%s: asking for all interfaces instead", error)  # more changed than the socket could hold
            self._is_stale = True
            # what still waits is older than the answer, and as long as it waits, what is newer gets lost
            self._events.discard()
        if self._is_stale:
            self._look_again()

    def _happened(self, kind: int, link: LinkInfo) -> None:
        """One event, which may be older than what is so by now."""
        if link.rx_packets is None:
            return  # a bridge's or wireless event about the link, not its state
        if kind == RTM_NEWLINK:
            is_new = self._find(link.index) is None and self._wants(link)
            now = self._ask(link.index) if is_new else link
            if now is not None:
                self._changed(now)
            return
        watched = self._find(link.index)
        if watched is not None and self._ask(link.index) is not None and self._is_attached(watched):
            return  # it came back, or this is of one that had its number before
        self._refused.pop(link.index, None)
        self._waiting.discard(link.index)
        self._lose(link.index, MOVED if link.moved else GONE)

    def _look_again(self) -> None:
        """Compare what is watched with what there is; again at the next tick where the kernel does not tell."""
        try:
            links = rtnetlink.links(self._netlink)
        except KernelError as error:
            log.debug("%s: trying again at the next tick", error)
            self._is_stale = True
            return
        self._is_stale = False
        present = {link.index for link in links}
        for watched in self._watched:
            if watched.index not in present:
                self._lose(watched.index, GONE)
        self._refused = {index: up for index, up in self._refused.items() if index in present}
        for link in links:
            self._changed(link)

    def _changed(self, link: LinkInfo) -> None:
        watched = self._find(link.index)
        if watched is not None:
            if watched.name != link.name:
                self._say(f"{watched.name}: the interface is called {link.name} now")
                watched.rename(link.name)
            if self._options.selection.gives_up(link):
                self._lose(link.index, "became a member of another interface, where its packets are seen again")
            return
        # one that refused is asked again when it has gone up or down, not at each of its changes
        if self._wants(link):
            error = self._try_watch(link)
            if error is not None:
                log.error("%s", error)

    def _wants(self, link: LinkInfo) -> bool:
        return self._options.selection.takes(link) and self._refused.get(link.index) is not link.is_up

    def _find(self, index: int) -> Watched | None:
        return next((watched for watched in self._watched if watched.index == index and not watched.lost), None)

    def _try_watch(self, link: LinkInfo) -> XtraceError | None:
        """Attach to an interface in all directions, or say why not; nothing is left of a half success."""
        taken = {watched.slot for watched in self._watched} | self._lost_slots
        slot = next((slot for slot in range(self._tables.plan.slots) if slot not in taken), None)
        if slot is None:
            self._refused[link.index] = link.is_up
            self._waiting.add(link.index)
            return InterfaceError(f"{link.name}: not monitored: {len(taken)} interfaces are, and no slot is free")
        self._say(message("Preparing to monitor network interface: {}", link.name))
        watched = Watched(link.index, link.name, slot, Coverage(link.name, self._say))
        try:
            for direction in self._options.directions:
                watched.attached[direction] = self._attacher.attach(link, slot, direction)
        except XtraceError as error:
            self._refused[link.index] = link.is_up
            if watched.attached:
                # one direction took it, and has counted since: the next snapshot tells what
                watched.close()
                self._watched.append(watched)
            return error
        self._watched.append(watched)
        return None

    def _lose(self, index: int, why: str) -> None:
        watched = self._find(index)
        if watched is None:
            return
        watched.close(moved=why == MOVED)  # moved to another namespace, it would still be attached
        told = f"{watched.name}: {why}; what it carried until then is counted"
        if why == GONE and watched.name in self._options.selection.names:
            told += "; it is monitored again when it comes back"
        self._say(told)
        if why == MOVED and (mode := watched.mode_that_stays()):
            removed = f"`ip link set dev {watched.name} {OFF[mode]} off`"
            self._say(f"{watched.name}: its XDP program stays attached there: {removed} in that namespace removes it")

    def _notice_detached(self) -> None:
        """A program that somebody else detached counts nothing: that must not look like silence on the wire."""
        for watched in self._watched:
            if watched.lost or self._is_attached(watched):
                continue
            link = self._ask(watched.index)
            if link is not None:
                self._refused[watched.index] = link.is_up
            self._lose(watched.index, GONE if link is None else "somebody else detached the program")

    def _is_attached(self, watched: Watched) -> bool:
        """Whether its programs are there, as far as the kernel tells."""
        try:
            return watched.alive()
        except KernelError as error:
            log.debug("%s: is it attached? %s", watched.name, error)
            return True

    def tick(self) -> FlowSnapshot:
        """End the current interval, start the next."""
        self.react()
        self._notice_detached()
        if any(watched.lost for watched in self._watched):
            # a program that began before it was detached must not run into the next buffer
            self._tables.wait_grace_period()
        self._sample()
        snapshot = self._snapshot(self._tables.take())
        # only now, with their last packets drained, can others have the slots
        self._lost_slots |= {watched.slot for watched in self._watched if watched.stays}
        kept = [watched for watched in self._watched if not watched.lost]
        has_room, self._watched = len(kept) < len(self._watched), kept
        if has_room and self._waiting:
            for index in self._waiting:
                self._refused.pop(index, None)
            self._waiting.clear()
            self._look_again()
        return snapshot

    def finish(self) -> FlowSnapshot:
        """Detach, end the last interval."""
        self._detach_all()
        self.ended = True
        for watched in self._watched:
            watched.coverage.sample(None)
        return self._snapshot(self._tables.finish())

    def close(self) -> None:
        """Detach and release everything."""
        self.ended = True
        self._opened.close()

    def _detach_all(self) -> None:
        for watched in self._watched:
            watched.close()

    def _sample(self) -> None:
        """Read the interfaces' own counters, just before a flip."""
        for watched in self._watched:
            watched.coverage.sample(None if watched.lost else self._ask(watched.index))

    def _ask(self, index: int) -> LinkInfo | None:
        try:
            return rtnetlink.link(self._netlink, index)
        except KernelError as error:
            log.debug("%s", error)
            return None

    def _snapshot(self, drained: Drained) -> FlowSnapshot:
        interfaces = tuple(
            (interface, self._counts(drained, watched, interface))
            for watched in self._watched
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
