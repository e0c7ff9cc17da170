"""What the path of a control group tells: container, pod and unit."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from xtrace.printable import own_name

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
    return own_name(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name)))


def place_in(groups: bytes) -> Place:
    """Return what /proc/PID/cgroup tells (cgroups(7)): of the first hierarchy that has a container or pod."""
    places = (place_of(os.fsdecode(line.split(b":", 2)[-1])) for line in groups.splitlines())
    return next((place for place in places if place.container or place.container_name or place.pod), NOWHERE)
