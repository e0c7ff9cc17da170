"""One watched interface: its programs, its slot, its own counters."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from xtrace.errors import KernelError, XtraceError
from xtrace.kernel import syscall
from xtrace.kernel.bpf import Fd
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.flow import Interface
from xtrace.model.words import Direction, XdpMode
from xtrace.monitors.flows.attach import Attached
from xtrace.monitors.flows.coverage import Coverage
from xtrace.monitors.flows.queue import Queue

log = logging.getLogger(__name__)


@dataclass
class Watched:
    """One interface with its programs."""

    index: int
    name: str
    slot: int
    coverage: Coverage
    queue: Queue
    attached: dict[Direction, Attached] = field(default_factory=dict)
    until_ns: int | None = None
    """when it was detached; its last interval is still to be drained"""
    layers: tuple[int, int] | None = None
    """the first header of its frames, for which the programs were loaded"""
    is_up: bool = True
    """whether it can carry packets, as far as was reported"""
    promiscuous: Fd | None = None
    """holds promiscuous mode"""
    stays: bool = False
    """whether a program could not be detached and still counts into the slot"""

    @property
    def lost(self) -> bool:
        """Whether it is detached."""
        return self.until_ns is not None

    def interfaces(self) -> Iterator[Interface]:
        """Its names in records, per direction."""
        for direction, attached in self.attached.items():
            where = (attached.hook, attached.xdp_mode, direction, attached.merges)
            yield Interface(self.name, self.slot, *where, is_up=self.is_up)

    def mode_that_stays(self) -> XdpMode | None:
        """The XDP mode of a program that stays attached when the interface moves to another namespace, or None."""
        stay = (attached for attached in self.attached.values() if attached.attachment.stays_when_moved)
        return next((attached.xdp_mode for attached in stay), None)

    def alive(self) -> bool:
        """Whether all of its programs are still attached, as far as is known."""
        try:
            return all(attached.attachment.alive() for attached in self.attached.values())
        except KernelError as error:
            log.debug("%s: cannot check the attachment: %s", self.name, error)
            return True

    def be_promiscuous(self) -> None:
        """Receive packets for other hosts, too, until close(). Raises KernelError."""
        call = f"PACKET_ADD_MEMBERSHIP(promiscuous, interface {self.index})"
        self.promiscuous = Fd(syscall.call(call, syscall.lib.xt_promiscuous, self.index))

    def follow(self, link: LinkInfo) -> str | None:
        """Note whether it can carry packets; the line to report where that changed."""
        if link.is_operational is self.is_up:
            return None
        self.is_up = link.is_operational
        if self.is_up:
            return f"{self.name}: the interface is up"
        if link.is_up:
            return f"{self.name}: no carrier; no packets until the link is up"
        return f"{self.name}: the interface is down; no packets until it is up (`ip link set {self.name} up`)"

    def rename(self, name: str) -> None:
        """Use the interface's new name from now on."""
        self.name = self.coverage.name = self.queue.name = name

    def close(self, moved: bool = False) -> None:
        """Detach everything, once; failures are logged and do not stop the rest.

        `moved`: the interface is in another network namespace, where some programs are out of reach.
        """
        if self.until_ns is not None:
            return
        self.until_ns = time.monotonic_ns()
        self.stays = moved and self.mode_that_stays() is not None
        if self.promiscuous is not None:
            self.promiscuous.close()
        for attached in self.attached.values():
            self._detach(attached)

    def _detach(self, attached: Attached) -> None:
        try:
            attached.attachment.close()
        except XtraceError as error:
            log.error("%s: detaching: %s", self.name, error)
            self.stays = True
        finally:
            self.until_ns = time.monotonic_ns()
