"""The monitored interfaces: follows them as they appear, change and disappear."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from xtrace.errors import InterfaceError, KernelError, PrivilegeError, XtraceError
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkChange, LinkEvent, LinkEvents, LinkInfo
from xtrace.messages import Say, message
from xtrace.model.flow import Unattached
from xtrace.model.words import Absence, Direction
from xtrace.monitors.flows.absent import Absentees
from xtrace.monitors.flows.attach import Attacher, loaded
from xtrace.monitors.flows.coverage import Coverage
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.kinds import layers
from xtrace.monitors.flows.links import Links
from xtrace.monitors.flows.queue import Queue
from xtrace.monitors.flows.refusals import removal
from xtrace.monitors.flows.slots import Slots
from xtrace.monitors.flows.watched import Watched
from xtrace.printable import some_of

log = logging.getLogger(__name__)

GONE = "the interface is gone"
MOVED = "the interface moved to another network namespace"
BECAME_MEMBER = "became a member of another interface, which counts its packets too"
CHANGED = "its frames begin with another header now"
FURTHER = "; hook records name it and all further ones"
DETACHED = "the program was detached by someone else"


class Way(NamedTuple):
    """How to watch each interface."""

    directions: Sequence[Direction]
    promiscuous: bool = False


class RosterState(NamedTuple):
    """The selected interfaces at the end of an interval."""

    attached: int
    unattached: tuple[Unattached, ...]
    reattached: tuple[str, ...]
    """names of those attached since the last call that were not before"""


class Roster:
    """Attaches to the selected interfaces, detaches from those no longer selected, and assigns slots.

    `watched` includes detached interfaces until their last packets have been drained.
    """

    def __init__(
        self,
        selection: Selection,
        way: Way,
        slots: int,
        attacher: Attacher,
        netlink: NetlinkSocket,
        events: LinkEvents,
        report: Say,
    ) -> None:
        """`slots`: number of interfaces the tables have room for. `events`: opened before anything is attached."""
        self._selection = selection
        self._way = way
        self._bridge_reported = False
        self._slots = Slots(slots)
        self._attacher = attacher
        self._links = Links(netlink)
        self._events = events
        self._report = report
        self.watched: list[Watched] = []
        self._absent = Absentees()
        self._lacks_slots = False
        """whether it was reported that there are no more slots"""
        self._is_stale = False
        """whether events were lost or the interfaces could not be listed"""

    def attach_first(self, check: Callable[[], None]) -> None:
        """Attach to the present interfaces. Raises InterfaceError, or the refusal, if all attempts fail."""
        links = self._links.all()
        chosen = [link for link in links if self._selection.takes(link)]
        if left_out := self._selection.left_out(links):
            names = ",".join(left_out)
            self._report(
                f"-i any excludes the bridge ports {names}: on the bridge itself, packets that its ports forward to"
                f" each other are not visible; -i any,{names} includes the ports"
            )
        available = some_of([link.name for link in links])
        missing = self._selection.missing(links)
        advice = "it is monitored as soon as it appears" if chosen else "choose one with -i"
        failures: list[XtraceError] = [
            InterfaceError(f"interface {name} not found (available: {available}); {advice}") for name in missing
        ]
        if not chosen and not missing:
            raise InterfaceError(self._selection.nothing_chosen(links))
        for link in chosen:
            check()
            if (error := self._try_watch(link)) is not None:
                failures.append(error)
        attached = not all(watched.lost for watched in self.watched)
        if not attached and len(failures) == 1:
            raise failures[0]
        for failure in failures:
            log.error("%s", failure)
        if not attached:
            privilege = next((failure for failure in failures if isinstance(failure, PrivilegeError)), None)
            raise privilege or InterfaceError("could not attach to any interface; -l lists them")

    def react(self) -> None:
        """Process the changes since the last call."""
        try:
            for event in self._events.read():
                self._happened(event)
        except KernelError as error:
            log.debug("%s: listing all interfaces instead", error)  # more changes than the socket could hold
            self._is_stale = True
            # pending events are older than the list, and until they are read the kernel drops new ones
            self._events.discard()
        if self._is_stale:
            self._look_again()

    def notice_detached(self) -> None:
        """A program detached by someone else counts nothing, which must not look like silence on the wire."""
        for watched in list(self.watched):
            if watched.lost or watched.alive():
                continue
            link = self._links.look_up(watched.index)
            if link is None:
                self.react()  # the event, if there is one, distinguishes a move from a deletion
                self._lose(watched.index, GONE)
            else:
                pause = self._absent.detached(link, DETACHED)
                self._lose(watched.index, DETACHED, f"; next attempt to attach in {pause:.0f} s")

    def retry(self) -> None:
        """Attach again where programs were detached by others, or no slot was free."""
        for index in self._absent.due():
            link = self._links.look_up(index)
            if link is not None and self._find(index) is None and self._wants(link):
                self._attach_and_report(link)

    def state(self) -> RosterState:
        """Which selected interfaces are monitored and which are not, those that do not exist included."""
        present = [watched.name for watched in self.watched if not watched.lost]
        missing = [name for name in self._selection.names if name not in present and self._links.is_missing(name)]
        absent = (
            *self._absent.listed(self._selection.names),
            *(Unattached(name, Absence.NOT_FOUND, "no such interface", True) for name in missing),
        )
        return RosterState(len(present), absent, self._absent.take_returned())

    @property
    def has_lost(self) -> bool:
        """Whether packets of detached interfaces remain to be drained."""
        return any(watched.lost for watched in self.watched)

    def sample(self) -> None:
        """Read the interfaces' own counters and state just before a flip, except those of detached interfaces."""
        for watched in self.watched:
            link = None if watched.lost else self._links.look_up(watched.index)
            watched.coverage.sample(link)
            self._follow_state(watched, link)

    def sample_queues(self) -> None:
        """Read the drops of the queues behind the egress hooks."""
        if Direction.EGRESS in self._way.directions:
            queues = self._links.queues()
            for watched in self.watched:
                watched.queue.sample(None if watched.lost else queues.get(watched.index))

    def drained(self) -> None:
        """The packets of detached interfaces have been drained: release their slots."""
        kept = self._slots.drained(self.watched)
        has_room, self.watched = len(kept) < len(self.watched), kept
        if has_room:
            self._lacks_slots = False
            if self._absent.slots_released():
                self.retry()

    def detach_all(self) -> None:
        """Detach from every interface; failures are logged."""
        for watched in self.watched:
            watched.close()

    def _happened(self, event: LinkEvent) -> None:
        """Process one event, which may be older than the interface's present state."""
        link = event.link
        watched = self._find(link.index)
        if event.change is LinkChange.APPEARED_OR_CHANGED:
            is_new = watched is None and self._wants(link)
            now = self._links.look_up(link.index) if is_new else link
            if now is not None:
                self._changed(now)
            return
        if watched is not None and self._links.look_up(link.index) is not None and watched.alive():
            return  # it came back, or the event is of an earlier interface with this index
        self._absent.gone(link.index)
        self._lose(link.index, MOVED if link.moved else GONE)

    def _look_again(self) -> None:
        """Compare the watched interfaces with all that exist; retried at the next tick if the list fails."""
        try:
            links = self._links.all()
        except KernelError as error:
            log.debug("%s: retrying at the next tick", error)
            self._is_stale = True
            return
        self._is_stale = False
        present = {link.index for link in links}
        for watched in self.watched:
            if watched.index not in present:
                self._lose(watched.index, GONE)
        self._absent.keep(present)
        for link in links:
            self._changed(link)

    def _changed(self, link: LinkInfo) -> None:
        watched = self._find(link.index)
        if watched is not None:
            if watched.name != link.name:
                self._report(f"{watched.name}: the interface was renamed to {link.name}")
                watched.rename(link.name)
            now = self._links.look_up(link.index)  # not as it was on its way to being deleted
            self._follow_state(watched, now)
            if self._selection.gives_up(link):
                self._lose(link.index, BECAME_MEMBER)
                return
            if now is None or layers(now) == watched.layers:
                return
            self._lose(link.index, CHANGED)
            link = self._links.look_up(link.index) or now  # without the program that was on it
        # retry after a refusal only when the interface has gone up or down, not at every change
        if self._wants(link):
            self._attach_and_report(link)

    def _follow_state(self, watched: Watched, link: LinkInfo | None) -> None:
        """Report an interface that goes down or comes up: zeros then have a reason."""
        if link is not None and (line := watched.follow(link)):
            self._report(line)

    def _attach_and_report(self, link: LinkInfo) -> None:
        error = self._try_watch(link)
        if error is None:
            return
        if self._links.is_missing(link.index):  # it came and went
            self._absent.gone(link.index)
            log.debug("%s", error)
        else:
            log.error("%s", error)

    def _wants(self, link: LinkInfo) -> bool:
        return self._selection.takes(link) and self._absent.may_try(link)

    def _find(self, index: int) -> Watched | None:
        return next((watched for watched in self.watched if watched.index == index and not watched.lost), None)

    def _try_watch(self, link: LinkInfo) -> XtraceError | None:
        """Attach to an interface in all directions, or return the error unless it is that of the last attempt.

        A partial success is undone.
        """
        slot = self._slots.free(self.watched)
        if slot is None:
            detail = f"not monitored: all {len(self._slots)} slots are in use"
            is_new = self._absent.without_slot(link, detail) and not self._lacks_slots
            self._lacks_slots = True
            return InterfaceError(f"{link.name}: {detail}{FURTHER}") if is_new else None
        if not self._absent.has_failed(link.index):
            log.debug("%s", message("Preparing to monitor network interface: {}", link.name))
        coverage, queue = Coverage(link.name, self._report, link), Queue(link.name, self._report)
        watched = Watched(link.index, link.name, slot, coverage, queue, layers=layers(link))
        if Direction.EGRESS in self._way.directions:
            queue.sample(self._links.queues().get(link.index))
        try:
            for direction in self._way.directions:
                watched.attached[direction] = self._attacher.attach(link, slot, direction)
            if self._way.promiscuous:
                watched.be_promiscuous()
        except XtraceError as error:
            is_new = self._absent.refused(link, str(error).removeprefix(f"{link.name}: "))
            if watched.attached:
                # one direction was attached and has counted: the next snapshot includes its packets
                watched.close()
                self.watched.append(watched)
            return error if is_new else None
        self._absent.attached(link)
        self.watched.append(watched)
        state = (watched.follow(link) or "").removeprefix(f"{link.name}: ")
        self._report(loaded(link.name, watched.attached, filter(None, [state, self._bridge(link)])))
        return None

    def _bridge(self, link: LinkInfo) -> str:
        """Return once that a bridge passes up only its own packets."""
        if link.kind != "bridge" or link.is_promiscuous or self._way.promiscuous or self._bridge_reported:
            return ""
        self._bridge_reported = True
        return (
            "a bridge shows only packets to and from this host; --promiscuous shows those that its ports forward to"
            " each other, too"
        )

    def _lose(self, index: int, why: str, next_step: str = "") -> None:
        watched = self._find(index)
        if watched is None:
            return
        watched.close(moved=why == MOVED)  # after a move some programs stay attached
        line = f"{watched.name}: {why}; packets seen until then are counted{next_step}"
        if why == GONE and watched.name in self._selection.names:
            line += "; it is monitored again when it comes back"
        self._report(line)
        if why == MOVED and (mode := watched.mode_that_stays()):
            command = removal(watched.name, mode)
            self._report(f"{watched.name}: its XDP program stays attached: {command} in that namespace removes it")
