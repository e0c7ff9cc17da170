"""Our filters on the clsact qdisc: who owns them, and those left behind by a killed process.

A filter outlives the process that created it. A filter's name ends in a token, and its owner holds the abstract unix
socket of that token, which ends with the process: that is how the next run recognizes a filter without an owner.

Abstract sockets belong to a network namespace, and so do interfaces: a filter is visible only in the namespace where
its owner's socket is visible too. An interface that moves to another namespace loses its qdiscs
(dev_shutdown() in __dev_change_net_namespace()).
"""

from __future__ import annotations

import logging
import os
import re
import socket as sockets
from errno import EADDRINUSE

from xtrace.errors import KernelError
from xtrace.kernel import rtnetlink, tc
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.kernel.tc import MAX_HANDLE, Parent, TcFilter
from xtrace.model.words import Direction

log = logging.getLogger(__name__)

NAME_PREFIX = "xtrace-catch:"
TOKEN_BYTES = 8
_OUR_NAME = re.compile(rf"{NAME_PREFIX}([0-9a-f]{{{2 * TOKEN_BYTES}}})")

PARENTS = {Direction.INGRESS: Parent.INGRESS, Direction.EGRESS: Parent.EGRESS}


def token_of(found: TcFilter) -> str | None:
    """The token of the owner's socket; None for a filter that is not ours."""
    ours = _OUR_NAME.fullmatch(found.name)
    return ours.group(1) if ours else None


def orphans(socket: NetlinkSocket, ifindex: int) -> list[TcFilter]:
    """Filters of both directions without an owner, left by a `kill -9`. Raises KernelError."""
    ours = [found for parent in Parent for found in tc.filters(socket, ifindex, parent) if token_of(found)]
    return [found for found in ours if not _is_held(found)]


def _hold(ifindex: int, token: str) -> sockets.socket:
    """Bind the abstract socket of a filter. Raises KernelError, EADDRINUSE if another process holds it.

    Bound before the filter is created and closed after its deletion: an unbound socket means no owner.
    """
    address = f"xtrace-catch/{ifindex}/{token}"
    holder = None
    try:
        holder = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC)
        holder.bind("\0" + address)
    except OSError as error:
        if holder is not None:
            holder.close()
        number = error.errno or 0
        raise KernelError(f"bind(@{address})", number) from error
    return holder


def _is_held(found: TcFilter) -> bool:
    """Whether a process holds its socket, or is probing or removing the filter at this moment."""
    try:
        _hold(found.ifindex, token_of(found) or "").close()
    except KernelError as error:
        if error.errno != EADDRINUSE:
            raise
        return True
    return False


def _remove_orphan(socket: NetlinkSocket, orphan: TcFilter) -> bool:
    """Delete a filter while holding its socket, so that only one process does; False if another was faster."""
    try:
        holder = _hold(orphan.ifindex, token_of(orphan) or "")
    except KernelError as error:
        if error.errno != EADDRINUSE:
            raise
        return False
    with holder:
        return tc.delete(socket, orphan)


class TcAttachment:
    """A program attached by our own filter, and the socket that marks its owner; `close()` ends both."""

    stays_when_moved = False  # the kernel removes the qdiscs of an interface that moves (dev_shutdown())

    def __init__(self, own: TcFilter, token: str, holder: sockets.socket) -> None:
        self.ifindex = own.ifindex
        self.parent = own.parent
        self.priority = own.priority
        self.handle = own.handle
        self.token = token
        self._filter = own
        self._holder = holder

    @classmethod
    def attach(cls, socket: NetlinkSocket, ifindex: int, direction: Direction, prog_fd: int) -> TcAttachment:
        """Attach a loaded program of type SCHED_CLS, to which the kernel then holds its own reference.

        Removes our own orphans first, in both directions, and replaces nothing else. Raises KernelError: EEXIST
        if an ingress qdisc is in the way, EOPNOTSUPP for a qdisc with a shared block.
        """
        tc.ensure_clsact(socket, ifindex)
        for orphan in orphans(socket, ifindex):
            if _remove_orphan(socket, orphan):
                _log_replaced(socket, orphan)
        token = os.urandom(TOKEN_BYTES).hex()
        holder = _hold(ifindex, token)
        try:
            # with a handle of its own, a delete hits this filter or none, and `replace` of handle 1 misses it
            handle = int(token, 16) % MAX_HANDLE + 1
            own = tc.create(socket, ifindex, PARENTS[direction], prog_fd, NAME_PREFIX + token, handle)
        except BaseException:
            holder.close()
            raise
        return cls(own, token, holder)

    def alive(self) -> bool:
        """Whether the filter is still there: not once the interface, the qdisc or the filter was deleted."""
        with NetlinkSocket(NETLINK_ROUTE) as socket:
            return tc.is_there(socket, self._filter)

    def close(self) -> None:
        """Delete the filter if it exists, and the socket; idempotent.

        Programs running at this moment end later: a grace period must follow before counts are final.
        Raises KernelError if the filter stays; the next xtrace-catch on this interface removes it.
        """
        if self._holder.fileno() < 0:
            return
        with self._holder, NetlinkSocket(NETLINK_ROUTE) as socket:
            tc.delete(socket, self._filter)


def _log_replaced(socket: NetlinkSocket, orphan: TcFilter) -> None:
    link = rtnetlink.link(socket, orphan.ifindex)
    name = link.name if link else f"interface {orphan.ifindex}"
    log.info("replaced the filter left on %s by a killed xtrace-catch (%s)", name, orphan.parent)
