"""Sockets from before the run: the processes that have them open now become their owners."""

from __future__ import annotations

import errno
from typing import NamedTuple

from xtrace.errors import KernelError
from xtrace.kernel import constants, proc
from xtrace.kernel.bpf import Fd, Map
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.process_sockets import Unreadable, command_of, cookie_of, internet_sockets, socket_descriptors
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import SOCKET_OWNER


class Seeded(NamedTuple):
    """What was found."""

    sockets: int
    unreadable: int
    """processes that may not be looked into"""


def seed(creators: Map, cgroups: Cgroups) -> Seeded:
    """Give every open socket that has no owner the process that holds it, of several the one with the lowest number.

    Sockets that are created meanwhile have their creator already.
    """
    counts = [_seed_process(pid, creators, cgroups) for pid in sorted(proc.pids())]
    return Seeded(sum(filter(None, counts)), counts.count(None))


def _seed_process(pid: int, creators: Map, cgroups: Cgroups) -> int | None:
    """Return how many sockets got this owner; None if the process may not be looked into."""
    try:
        descriptors = socket_descriptors(pid)
        if not descriptors:
            return 0
        holder = (cgroups.id_of(pid), pid, proc.real_uid(pid) or 0, command_of(pid), lib.OWNER_SOCKET, lib.OWNER_HELD)
        return sum(
            _add(creators, copy, SOCKET_OWNER.pack(*holder, cookie_of(copy)))
            for copy in internet_sockets(pid, descriptors)
        )
    except Unreadable:
        return None


def _add(creators: Map, socket: Fd, owner: bytes) -> bool:
    try:
        creators.update(socket.fileno().to_bytes(4, "little"), owner, constants.MAP_NO_EXIST)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True
