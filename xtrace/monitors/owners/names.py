"""The names of owners: from the path of a control group to container, pod and unit."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from xtrace.kernel import proc
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.runtime_names import container_name, pod_name
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import KINDS, OWNER, ROLES, FlowOwner, How

MOST_OWNERS = 1 << 16
"""Owners remembered; there is one for each process with sockets of its own."""
MOST_CGROUPS = 1 << 14

_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_UNIT = re.compile(r"[^/]+\.(?:service|scope)(?=/|$)")


class Place(NamedTuple):
    """What the path of a control group tells, and the names that belong to it."""

    path: str | None = None
    container: str | None = None
    pod: str | None = None
    unit: str | None = None
    container_name: str | None = None
    pod_name: str | None = None


NOWHERE = Place()


def place_of(path: str) -> Place:
    """Return what a path tells: the innermost container, pod and unit."""
    containers, pods, units = _CONTAINER.findall(path), _POD.findall(path), _UNIT.findall(path)
    return Place(
        path,
        containers[-1] if containers else None,
        pods[-1].replace("_", "-") if pods else None,
        units[-1] if units else None,
    )


class OwnerNames:
    """Names owners as they are first seen, since a control group may be gone a moment later."""

    def __init__(self, cgroups: Cgroups, *, knows_kernel: bool) -> None:
        """`knows_kernel`: raw sockets that processes had open at the start are known, so that others are not theirs."""
        self._cgroups = cgroups
        self._knows_kernel = knows_kernel
        self._place = lru_cache(MOST_CGROUPS)(self._find_place)
        self.of = lru_cache(MOST_OWNERS)(self._find)
        """from a struct flow_owner, as bytes, to its FlowOwner"""

    def _find_place(self, cgroup: int) -> Place:
        path = self._cgroups.path_of(cgroup)
        if path is None:
            return NOWHERE
        place = place_of(path)
        return place._replace(
            container_name=container_name(place.container) if place.container else None,
            pod_name=pod_name(place.pod) if place.pod else None,
        )

    def _find(self, packed: bytes) -> FlowOwner:
        cgroup, pid, uid, command, kind, role = OWNER.unpack(packed)
        how = ROLES[role] if kind == lib.OWNER_SOCKET else KINDS[kind]
        if how is How.KERNEL and not self._knows_kernel:
            how = How.UNKNOWN
        is_process = kind == lib.OWNER_SOCKET
        # what else is left of a socket is of one that was not believed
        place = self._place(cgroup) if cgroup and (is_process or how is How.CGROUP) else NOWHERE
        if how is How.CGROUP and place.path == "/":
            how, place = How.UNKNOWN, NOWHERE  # of processes in no group, and of the kernel itself
        return FlowOwner(
            how=how,
            pid=pid if is_process else None,
            uid=uid if is_process else None,
            command=proc.own_name(command.split(b"\0", 1)[0]) if is_process else None,
            cgroup=place.path,
            container=place.container,
            container_name=place.container_name,
            pod=place.pod,
            pod_name=place.pod_name,
            unit=place.unit,
        )
