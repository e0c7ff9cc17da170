"""Who a thread belongs to: thread -> process -> command, container."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from xtrace.kernel import sysfs

_CONTAINER = re.compile(r"[0-9a-f]{64}")
"""Docker, containerd, CRI-O and podman put their 64-digit id into the cgroup's path, each with another prefix."""

SHORT_ID = 12
"""Digits of a container's id that its programs show."""


class Owner(NamedTuple):
    """A process."""

    pid: int
    command: str
    container: str | None


def owner_of(thread: int) -> Owner | None:
    """The process of a thread, by its number in this process's pid namespace; None if it is gone.

    Where a container has the machine's /proc at /host/proc, the numbers there are other processes'.
    """
    proc = Path(os.environ.get("XTRACE_PROCFS") or "/proc")
    pid = _thread_group(sysfs.read_or_none(proc / str(thread) / "status"))
    if pid is None:
        return None
    command = sysfs.read_or_none(proc / str(pid) / "comm") or ""
    return Owner(pid, command, container_of(proc / str(pid)))


def _thread_group(status: str | None) -> int | None:
    """/proc/<id>/status is there for every thread, also for those that /proc does not list."""
    found = re.search(r"^Tgid:\s*(\d+)$", status or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def container_of(process: Path) -> str | None:
    """The short id of the container that a process runs in; None outside of containers."""
    found = _CONTAINER.findall(sysfs.read_or_none(process / "cgroup") or "")
    return found[-1][:SHORT_ID] if found else None
