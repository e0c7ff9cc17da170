"""Programs attached to interfaces: by links, or XDP by rtnetlink where links are switched off."""

from __future__ import annotations

import errno
import logging
from contextlib import ExitStack
from typing import Protocol

from xtrace.errors import KernelError
from xtrace.kernel import rtnetlink
from xtrace.kernel.bpf import Link, Program
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket

log = logging.getLogger(__name__)


class Attachment(Protocol):
    """A packet program on an interface."""

    stays_when_moved: bool
    """whether it stays attached, out of reach, when the interface moves to another network namespace"""

    def alive(self) -> bool:
        """Whether it is still attached: not once the interface is gone."""

    def close(self) -> None:
        """Detach and release."""


class LinkAttachment:
    """By BPF_LINK_CREATE: the kernel detaches it with its last descriptor."""

    stays_when_moved = False

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def attach(cls, program: Program, ifindex: int, attach_type: int, flags: int) -> LinkAttachment:
        """BPF_LINK_CREATE; the link holds the program, so its descriptor may be closed. Raises KernelError."""
        return cls(Link.attach(program, ifindex, attach_type, flags))

    def alive(self) -> bool:
        """Whether the link is still attached to an interface."""
        return self._link.ifindex() != 0

    def close(self) -> None:
        """Detach, even if others hold the link, and release."""
        with self._link:
            self._link.detach()


class NetlinkXdpAttachment:
    """By rtnetlink, without links. Owns the program; a `kill -9` leaves it attached."""

    stays_when_moved = True

    def __init__(self, program: Program, ifindex: int, flags: int) -> None:
        # detaching must name the program
        self._program, self._ifindex, self._flags = program, ifindex, flags
        self._id = program.id()

    def attach(self, netlink: NetlinkSocket) -> None:
        """Attach if there is no program yet. Raises KernelError, with the driver's reason as detail."""
        rtnetlink.xdp_attach(netlink, self._ifindex, self._program.fileno(), self._flags)

    def alive(self) -> bool:
        """Whether this very program is attached: others can replace it (`ip -force`)."""
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            link = rtnetlink.link(netlink, self._ifindex)
        if link is None or link.xdp is None:
            return False
        return self._id in (link.xdp.prog_id, link.xdp.native_id, link.xdp.generic_id)

    def close(self) -> None:
        """Detach this program and no other."""
        with self._program, NetlinkSocket(NETLINK_ROUTE) as netlink:
            try:
                rtnetlink.xdp_detach(netlink, self._ifindex, self._program.fileno(), self._flags)
            except KernelError as error:
                if error.errno not in (errno.ENODEV, errno.EEXIST):
                    raise
                # EEXIST: detached or replaced by others. ENODEV: the interface was deleted, and the program with it;
                # or it moved to another namespace, out of reach
                log.debug("ifindex %d: nothing to detach: %s", self._ifindex, error)


class Together:
    """Two programs that are of use only together."""

    def __init__(self, first: Attachment, second: Attachment) -> None:
        self._both = first, second
        self.stays_when_moved = first.stays_when_moved or second.stays_when_moved

    def alive(self) -> bool:
        """Whether both are attached."""
        return all(each.alive() for each in self._both)

    def close(self) -> None:
        """Detach and release both."""
        with ExitStack() as closing:
            for each in self._both:
                closing.callback(each.close)
