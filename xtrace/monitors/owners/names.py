"""The names of owners: from the path of a control group to container, pod and unit."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import NamedTuple

from xtrace.kernel import proc
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.runtime_names import Names, names_of, pod_name
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import KINDS, OWNER, ROLES, FlowOwner, How

MOST_OWNERS = 1 << 16
"""Owners remembered; there is one for each process with sockets of its own."""
MOST_CGROUPS = 1 << 14

_CONTAINER = re.compile(r"(?<![0-9a-f])(?<!libpod_pod_)[0-9a-f]{64}(?![0-9a-f])")
_MONITOR = re.compile(r"(?:^|[/-])conmon(?:-|/|$)")
"""A helper beside a container, of CRI-O and Podman, whose group has the container's id."""
_MACHINE = re.compile(
    r"(?:(?:^|/)(?:lxc\.payload\.|lxc/)([^/]+)"
    r"|(?:^|/)machine\.slice/(?:machine-(?!qemu(?:-|\\x2d))([^/]+)\.scope|systemd-nspawn@([^/]+)\.service))(?=/|$)"
)
"""Containers that have a name instead of an id: those of LXC, LXD and Incus, of systemd-nspawn and what else
systemd-machined knows, which has virtual machines too."""
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])")
"""The uid of a pod that the kubelet has from a file is a hash, without hyphens."""
_UNIT = re.compile(r"[^/]+\.(?:service|scope)(?=/|$)")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
"""In the names of units (systemd.unit(5))."""


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
    container, machine = _last(_CONTAINER, path), _last(_MACHINE, path)
    if _MONITOR.search(path):
        container = machine = None
    elif container and machine and machine.start() > container.start():
        container = None
    elif container:
        machine = None
    pod, unit = _last(_POD, path), _last(_UNIT, path)
    return Place(
        path,
        container[0] if container else None,
        pod[1].replace("_", "-") if pod else None,
        unit[0] if unit else None,
        _unescaped(machine[machine.lastindex or 0]) if machine else None,
    )


def _last(pattern: re.Pattern[str], path: str) -> re.Match[str] | None:
    return max(pattern.finditer(path), key=re.Match.start, default=None)


def _unescaped(name: str) -> str:
    """Return what systemd has escaped, as far as it may be printed."""
    return proc.own_name(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name)))


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
        names = names_of(place.container) if place.container else Names(place.container_name)
        return place._replace(
            container_name=names.container,
            pod_name=(pod_name(place.pod) if place.pod else None) or names.pod,
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
