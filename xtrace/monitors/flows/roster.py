"""Which interfaces are monitored: follows them as they come, change and go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from xtrace.errors import InterfaceError, KernelError, PrivilegeError, XtraceError
from xtrace.kernel import rtnetlink
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkChange, LinkEvent, LinkEvents, LinkInfo
from xtrace.messages import Say, message
from xtrace.model.words import Direction
from xtrace.monitors.flows.attach import Attacher
from xtrace.monitors.flows.coverage import Coverage
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.refusals import removal
from xtrace.monitors.flows.watched import Watched

log = logging.getLogger(__name__)

GONE = "the interface is gone"
MOVED = "the interface moved to another network namespace"
BECAME_MEMBER = "became a member of another interface, where its packets are seen again"
DETACHED = "somebody else detached the program"


class Roster:
    """Attaches to the interfaces that are selected, detaches from those that are no longer; gives each a slot.

    `watched` has them all, also those that are detached but whose last packets are not drained yet.
    """

    def __init__(
        self,
        selection: Selection,
        directions: Sequence[Direction],
        slots: int,
        attacher: Attacher,
        netlink: NetlinkSocket,
        events: LinkEvents,
        say: Say,
    ) -> None:
        """`slots`: how many interfaces the tables have room for. `events`: opened before anything is attached."""
        self._selection = selection
        self._directions = directions
        self._slots = range(slots)
        self._attacher = attacher
        self._netlink = netlink
        self._events = events
        self._say = say
        self.watched: list[Watched] = []
        self._refused: dict[int, bool] = {}
        """interfaces that could not be attached to, by index: whether they were up"""
        self._waiting: set[int] = set()
        """interfaces that were refused for want of a slot, by index"""
        self._lost_slots: set[int] = set()
        """those of programs that could not be detached, and count on"""
        self._is_stale = False
        """whether events were lost, or interfaces could not be listed"""

    def attach_first(self, check: Callable[[], None]) -> None:
        """Attach to what is there. Raises InterfaceError, or what it was refused with, where nothing can be."""
        links = rtnetlink.links(self._netlink)
        chosen = [link for link in links if self._selection.takes(link)]
        if left_out := self._selection.left_out(links):
            names = ",".join(left_out)
            self._say(
                f"-i any leaves out {names}: of a bridge's ports is seen what the bridge itself receives, not what they"
                f" forward to each other; -i any,{names} takes them, too"
            )
        there_are = ", ".join(link.name for link in links)
        missing = self._selection.missing(links)
        advice = "it is watched as soon as it comes" if chosen else "choose one with -i"
        failures: list[XtraceError] = [
            InterfaceError(f"interface {name} not found: there are {there_are}; {advice}") for name in missing
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
            raise privilege or InterfaceError("no interface could be attached to: see -l for those there are")

    def react(self) -> None:
        """Follow what changed since the last call."""
        try:
            for event in self._events.read():
                self._happened(event)
        except KernelError as error:
            log.debug("%s: asking for all interfaces instead", error)  # more changed than the socket could hold
            self._is_stale = True
            # what still waits is older than the answer, and as long as it waits, what is newer gets lost
            self._events.discard()
        if self._is_stale:
            self._look_again()

    def notice_detached(self) -> None:
        """A program that somebody else detached counts nothing: that must not look like silence on the wire."""
        for watched in self.watched:
            if watched.lost or self._is_attached(watched):
                continue
            link = self._look_up(watched.index)
            if link is not None:
                self._refused[watched.index] = link.is_up
            self._lose(watched.index, GONE if link is None else DETACHED)

    @property
    def has_lost(self) -> bool:
        """Whether some are detached whose last packets are not drained yet."""
        return any(watched.lost for watched in self.watched)

    def sample(self) -> None:
        """Read the interfaces' own counters, just before a flip; not of those that are detached."""
        for watched in self.watched:
            watched.coverage.sample(None if watched.lost else self._look_up(watched.index))

    def drained(self) -> None:
        """The packets of those that are lost were drained. Only now can others have their slots.

        Packets are told apart by slot alone. A program counts until it is detached, into the buffer that is drained
        next: whoever took its slot before that would be shown its packets. So slots become free here, and nowhere
        else; that of a program that could not be detached never does.
        """
        self._lost_slots |= {watched.slot for watched in self.watched if watched.stays}
        kept = [watched for watched in self.watched if not watched.lost]
        has_room, self.watched = len(kept) < len(self.watched), kept
        if has_room and self._waiting:
            for index in self._waiting:
                self._refused.pop(index, None)
            self._waiting.clear()
            self._look_again()

    def _free_slot(self) -> int | None:
        """The first slot that is not taken, or not any more: see drained()."""
        taken = {watched.slot for watched in self.watched} | self._lost_slots
        return next((slot for slot in self._slots if slot not in taken), None)

    def detach_all(self) -> None:
        """Detach from every interface; what fails is logged."""
        for watched in self.watched:
            watched.close()

    def _happened(self, event: LinkEvent) -> None:
        """One event, which may be older than the interface's present state."""
        link = event.link
        watched = self._find(link.index)
        if event.change is LinkChange.APPEARED_OR_CHANGED:
            is_new = watched is None and self._wants(link)
            now = self._look_up(link.index) if is_new else link
            if now is not None:
                self._changed(now)
            return
        if watched is not None and self._look_up(link.index) is not None and self._is_attached(watched):
            return  # it came back, or this is of one that had its number before
        self._refused.pop(link.index, None)
        self._waiting.discard(link.index)
        self._lose(link.index, MOVED if link.moved else GONE)

    def _look_again(self) -> None:
        """Compare what is watched with what there is; again at the next tick where the kernel does not answer."""
        try:
            links = rtnetlink.links(self._netlink)
        except KernelError as error:
            log.debug("%s: trying again at the next tick", error)
            self._is_stale = True
            return
        self._is_stale = False
        present = {link.index for link in links}
        for watched in self.watched:
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
            if self._selection.gives_up(link):
                self._lose(link.index, BECAME_MEMBER)
            return
        # one that refused is tried again when it has gone up or down, not at each of its changes
        if self._wants(link):
            error = self._try_watch(link)
            if error is not None:
                log.error("%s", error)

    def _wants(self, link: LinkInfo) -> bool:
        return self._selection.takes(link) and self._refused.get(link.index) is not link.is_up

    def _find(self, index: int) -> Watched | None:
        return next((watched for watched in self.watched if watched.index == index and not watched.lost), None)

    def _try_watch(self, link: LinkInfo) -> XtraceError | None:
        """Attach to an interface in all directions, or return why not; nothing is left of a half success."""
        slot = self._free_slot()
        if slot is None:
            self._refused[link.index] = link.is_up
            self._waiting.add(link.index)
            return InterfaceError(f"{link.name}: not monitored: {len(self._slots)} interfaces are, and no slot is free")
        self._say(message("Preparing to monitor network interface: {}", link.name))
        watched = Watched(link.index, link.name, slot, Coverage(link.name, self._say))
        try:
            for direction in self._directions:
                watched.attached[direction] = self._attacher.attach(link, slot, direction)
        except XtraceError as error:
            self._refused[link.index] = link.is_up
            if watched.attached:
                # one direction took it, and has counted since: the next snapshot has what
                watched.close()
                self.watched.append(watched)
            return error
        self.watched.append(watched)
        return None

    def _lose(self, index: int, why: str) -> None:
        watched = self._find(index)
        if watched is None:
            return
        watched.close(moved=why == MOVED)  # moved to another namespace, it would still be attached
        line = f"{watched.name}: {why}; what it carried until then is counted"
        if why == GONE and watched.name in self._selection.names:
            line += "; it is monitored again when it comes back"
        self._say(line)
        if why == MOVED and (mode := watched.mode_that_stays()):
            command = removal(watched.name, mode)
            self._say(f"{watched.name}: its XDP program stays attached there: {command} in that namespace removes it")

    def _is_attached(self, watched: Watched) -> bool:
        """Whether its programs are there, as far as is known."""
        try:
            return watched.alive()
        except KernelError as error:
            log.debug("%s: is it attached? %s", watched.name, error)
            return True

    def _look_up(self, index: int) -> LinkInfo | None:
        try:
            return rtnetlink.link(self._netlink, index)
        except KernelError as error:
            log.debug("%s", error)
            return None
