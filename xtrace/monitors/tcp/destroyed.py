"""The ends of TCP sockets where the program that sees them cannot run: what sock_diag tells of each that is destroyed.

Listening to its groups (uapi/linux/sock_diag.h) costs each connection of the namespace some microseconds. The kernel
sends nothing where it finds no memory, and says no number where the buffer is full, so how many are lost is not known.
It does not tell why a socket ended.
"""

from __future__ import annotations

import logging
from errno import ENOBUFS

from xtrace.errors import KernelError
from xtrace.kernel.netlink import DISCARD_TRIES, NetlinkSocket
from xtrace.kernel.sock_diag import NETLINK_SOCK_DIAG, TCP_DESTROYED_GROUPS, Samples
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import SAMPLE, Sample
from xtrace.monitors.tcp.ends import End

log = logging.getLogger(__name__)

BUFFER_BYTES = 32 << 20
"""Room for some 60,000 ends until they are read; the kernel takes it as they come."""


class DestroyedSockets:
    """Hears of every TCP socket of this network namespace that is destroyed, from its creation on."""

    sees_others = False
    """whether follow() has an effect: a socket that is held open in another namespace would keep it alive"""

    def __init__(self, netns: int) -> None:
        """`netns`: the inode number of this namespace. Raises KernelError."""
        self._netns = netns
        self._netlink = NetlinkSocket(NETLINK_SOCK_DIAG, TCP_DESTROYED_GROUPS)
        self._netlink.make_room(BUFFER_BYTES)
        self._samples = Samples()

    def follow(self, netns: int) -> None:
        """Nothing: only this namespace is heard of."""

    def forget(self, netns: int) -> None:
        """Nothing."""

    def drain(self) -> list[End]:
        """Return the ends that were told of since the last call, in the order in which they were."""
        self._samples.clear()
        for _ in range(DISCARD_TRIES):
            try:
                self._netlink.notified_into(self._samples)
                break
            except KernelError as error:
                log.debug("ends of sockets: %s", error)
                if error.errno != ENOBUFS:  # some found no room, and others are left
                    break
        view = self._samples.view()
        found = (Sample.unpack(view, index * SAMPLE.size) for index in range(len(self._samples)))
        return [End(0, 0, each._replace(netns=self._netns, event=lib.TCP_DESTROYED)) for each in found]

    def lost(self) -> None:
        """How many were not told of is never known."""

    def memory(self) -> int:
        """There are no maps."""
        return 0

    def close(self) -> None:
        """Hear no more."""
        self._netlink.close()
