"""The names of owners: from the path of a control group to container, pod and unit."""

from __future__ import annotations

from functools import lru_cache

from xtrace.kernel.cgroup_paths import NOWHERE, Place, outer_part, place_of
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.runtime_names import Names, names_of, pod_name
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import KINDS, OWNER, ROLES, FlowOwner, How
from xtrace.printable import own_name

MOST_OWNERS = 1 << 16
"""Owners remembered; there is one for each process with sockets of its own."""
MOST_CGROUPS = 1 << 14


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
        place, outer = place_of(path), place_of(outer_part(path))
        # what a container or a user has called so is not looked up: its name would be that of another's id
        names = names_of(place.container) if place.container and place.container == outer.container else Names()
        pod = pod_name(place.pod) if place.pod and place.pod == outer.pod else None
        return place._replace(container_name=place.container_name or names.container, pod_name=pod or names.pod)

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
            command=own_name(command.split(b"\0", 1)[0]) if is_process else None,
            cgroup=place.path,
            container=place.container,
            container_name=place.container_name,
            pod=place.pod,
            pod_name=place.pod_name,
            unit=place.unit,
        )
