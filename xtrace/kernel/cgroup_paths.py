"""What the path of a control group tells: container, pod and unit."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from xtrace.printable import own_name

_CONTAINER = re.compile(r"(?<![0-9a-f])(?<!libpod_pod_)(?<!libpod_parent/)[0-9a-f]{64}(?![0-9a-f])")
"""After `libpod_` is the id of a pod of Podman."""
_MONITOR = re.compile(r"(?:^|/)(?:crio|libpod)-conmon-[0-9a-f]{64}(?:\.scope)?$")
"""A helper beside a container, of CRI-O and Podman, whose group has the container's id. It is in what it is below, so
that nothing in a container leaves it by a group of that name."""
_MACHINE = re.compile(
    r"(?:(?:^|/)(?:lxc\.payload\.|lxc/)([^/]+)"
    r"|(?:^|/)machine\.slice/(?:machine-(?!qemu(?:-|\\x2d))([^/]+)\.scope|systemd-nspawn@([^/]+)\.service))(?=/|$)"
)
"""Containers that have a name instead of an id: those of LXC, LXD and Incus, of systemd-nspawn and what else
systemd-machined knows, which has virtual machines too."""
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])")
"""The uid of a pod that the kubelet has from a file is a hash, without hyphens."""
_USER = re.compile(r"(?:^|/)user@[^/]+\.service(?=/|$)")
"""A user's own manager: groups below have the names that the user chooses."""
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
    within = _MONITOR.sub("", path)
    container, machine = _last(_CONTAINER, within), _last(_MACHINE, within)
    if container and machine and machine.start() > container.start():
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


def outer_part(path: str) -> str:
    """Return the part that the host or its runtimes have named: up to the outermost container, or to a user's."""
    user = _USER.search(path)
    trusted = path[: user.start()] if user else path
    ends = [found.end() for found in (_CONTAINER.search(trusted), _MACHINE.search(trusted)) if found]
    return trusted[: min(ends, default=None)]


def _last(pattern: re.Pattern[str], path: str) -> re.Match[str] | None:
    return max(pattern.finditer(path), key=re.Match.start, default=None)


def _unescaped(name: str) -> str:
    """Return what systemd has escaped, as far as it may be printed."""
    return own_name(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name)))


def place_in(groups: bytes) -> Place:
    """Return what /proc/PID/cgroup tells (cgroups(7)): of the first hierarchy that has a container or pod."""
    places = (place_of(os.fsdecode(line.split(b":", 2)[-1])) for line in groups.splitlines())
    return next((place for place in places if place.container or place.container_name or place.pod), NOWHERE)
