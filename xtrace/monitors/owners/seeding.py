"""Sockets from before the run: the processes that have them open now become their owners."""

from __future__ import annotations

import errno
from typing import NamedTuple

from xtrace.errors import KernelError
from xtrace.kernel import constants, proc
from xtrace.kernel.bpf import Fd, Map
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.process_sockets import (
    Unreadable,
    command_of,
    cookie_of,
    internet_sockets,
    raw_sockets,
    socket_descriptors,
)
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import SOCKET_OWNER


class Seeded(NamedTuple):
    """What was found."""

    sockets: int
    unreadable: int
    """processes that may not be looked into"""
    knows_raw: bool
    """whether every raw socket of this network namespace has an owner now, so that others are the kernel's"""


def seed(creators: Map, cgroups: Cgroups) -> Seeded:
    """Give every open socket that has no owner the process that holds it, of several the one with the lowest number.

    Sockets that are created meanwhile have their creator already.
    """
    raw = raw_sockets()  # first: later ones have their creator
    seen: set[int] = set()
    counts = [_seed_process(pid, creators, cgroups, seen) for pid in sorted(proc.pids())]
    return Seeded(sum(filter(None, counts)), counts.count(None), raw <= seen)


def _seed_process(pid: int, creators: Map, cgroups: Cgroups, seen: set[int]) -> int | None:
    """Return how many sockets got this owner; None if the process may not be looked into. `seen` gets their inodes."""
    try:
        descriptors = socket_descriptors(pid)
        if not descriptors:
            return 0
        holder = (cgroups.id_of(pid), pid, proc.real_uid(pid) or 0, command_of(pid), lib.OWNER_SOCKET, lib.OWNER_HELD)
        added = sum(
            _add(creators, copy, SOCKET_OWNER.pack(*holder, cookie_of(copy)))
            for copy in internet_sockets(pid, descriptors)
        )
    except Unreadable:
        return None
    seen.update(descriptors.values())
    return added


def _add(creators: Map, socket: Fd, owner: bytes) -> bool:
    try:
        creators.update(socket.fileno().to_bytes(4, "little"), owner, constants.MAP_NO_EXIST)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True
