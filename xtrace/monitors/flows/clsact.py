"""Our filters on the clsact qdisc: whose they are, and what a killed process left.

A filter outlives the process that made it. So that the next one finds what a killed one left, a filter's name ends
in a token, and whoever owns the filter holds the abstract unix socket of that token, which ends with the process.

Abstract sockets belong to a network namespace, and so do interfaces: filters are seen only in the namespace where
their owner's socket is seen too. An interface that moves to another namespace loses its qdiscs on the way
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
    """What names the socket of a filter's owner; None for a filter that is not ours."""
    ours = _OUR_NAME.fullmatch(found.name)
    return ours.group(1) if ours else None


def orphans(socket: NetlinkSocket, ifindex: int) -> list[TcFilter]:
    """Filters, of both directions, whose owner is no more: a `kill -9` leaves them. Raises KernelError."""
    ours = [found for parent in Parent for found in tc.filters(socket, ifindex, parent) if token_of(found)]
    return [found for found in ours if not _is_held(found)]


def _hold(ifindex: int, token: str) -> sockets.socket:
    """Bind the abstract socket of a filter. Raises KernelError, EADDRINUSE if somebody else holds it.

    It is bound before the filter is created and closed after it was deleted: unbound means without owner.
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
    """Whether somebody holds its socket; also for the moment that somebody else is trying or removing it."""
    try:
        _hold(found.ifindex, token_of(found) or "").close()
    except KernelError as error:
        if error.errno != EADDRINUSE:
            raise
        return True
    return False


def _remove_orphan(socket: NetlinkSocket, orphan: TcFilter) -> bool:
    """Delete a filter while holding its socket, so that no two do; False if somebody else was quicker."""
    try:
        holder = _hold(orphan.ifindex, token_of(orphan) or "")
    except KernelError as error:
        if error.errno != EADDRINUSE:
            raise
        return False
    with holder:
        return tc.delete(socket, orphan)


class TcAttachment:
    """A program attached by a filter of our own, and the socket that says so; `close()` ends both."""

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
        """Attach a loaded program of type SCHED_CLS, of which the kernel then keeps a reference of its own.

        Replaces nothing but orphans of ours, which go first, in both directions. Raises KernelError: EEXIST
        where an ingress qdisc is in the way, EOPNOTSUPP for a qdisc with a shared block.
        """
        tc.ensure_clsact(socket, ifindex)
        for orphan in orphans(socket, ifindex):
            if _remove_orphan(socket, orphan):
                _say_replaced(socket, orphan)
        token = os.urandom(TOKEN_BYTES).hex()
        holder = _hold(ifindex, token)
        try:
            # by a handle of its own a delete hits ours or nothing, and those who replace handle 1 miss it
            handle = int(token, 16) % MAX_HANDLE + 1
            own = tc.create(socket, ifindex, PARENTS[direction], prog_fd, NAME_PREFIX + token, handle)
        except BaseException:
            holder.close()
            raise
        return cls(own, token, holder)

    def alive(self) -> bool:
        """Whether the filter still is there: not after its interface, its qdisc or itself was deleted."""
        with NetlinkSocket(NETLINK_ROUTE) as socket:
            return tc.is_there(socket, self._filter)

    def close(self) -> None:
        """Delete the filter if it is there, and the socket; any number of times.

        Programs that run at this moment end after it: a grace period must follow before counts are final.
        Raises KernelError where the filter stays; the next xtrace-catch on this interface will remove it.
        """
        if self._holder.fileno() < 0:
            return
        with self._holder, NetlinkSocket(NETLINK_ROUTE) as socket:
            tc.delete(socket, self._filter)


def _say_replaced(socket: NetlinkSocket, orphan: TcFilter) -> None:
    link = rtnetlink.link(socket, orphan.ifindex)
    name = link.name if link else f"interface {orphan.ifindex}"
    log.info("replaced the filter a killed xtrace-catch left on %s (%s)", name, orphan.parent)
