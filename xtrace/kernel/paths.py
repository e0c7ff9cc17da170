"""Where proc and sys of the machine are: mounted at /host in a container, else where they always are.

What belongs to this process (its /proc/self, its /sys/class/net) is read at its usual place.
"""

from __future__ import annotations

import os
from pathlib import Path

from xtrace.errors import UsageError

HOST = Path("/host")
"""Where a container gets the machine's proc and sys: `-v /proc:/host/proc:ro -v /sys:/host/sys:ro`."""

_chosen: dict[str, str] = {}
"""By --procfs and --sysfs, for the whole process: names of file systems to directories."""


def choose(proc: str | None = None, sys: str | None = None) -> None:
    """Take these directories from now on; None leaves the choice to the environment. Raises UsageError."""
    _chosen.clear()
    _chosen.update({name: path for name, path in (("proc", proc), ("sys", sys)) if path})
    procfs()
    sysfs()


def procfs() -> Path:
    """--procfs, else XTRACE_PROCFS, else /host/proc where it is mounted, else /proc. Raises UsageError."""
    return _root("proc", ("stat",), "XTRACE_PROCFS")


def sysfs() -> Path:
    """--sysfs, else XTRACE_SYSFS, else /host/sys where it is mounted, else /sys. Raises UsageError."""
    return _root("sys", ("kernel", "class"), "XTRACE_SYSFS")


def _root(name: str, entries: tuple[str, ...], variable: str) -> Path:
    """One of `entries` is in every mounted one, so that another directory, or an empty one, is not taken for it."""
    given = _chosen.get(name) or os.environ.get(variable, "")
    if given:
        if not Path(given).is_dir():
            raise UsageError(f"{given}: no such directory: --{name}fs and {variable} name a mounted {name} file system")
        if not _is_one(Path(given), entries):
            raise UsageError(
                f"{given}: no {name} file system: {' and '.join(entries)} not found there;"
                f" --{name}fs and {variable} name a mounted one"
            )
        return Path(given)
    mounted = HOST / name
    return mounted if _is_one(mounted, entries) else Path("/", name)


def _is_one(root: Path, entries: tuple[str, ...]) -> bool:
    return any((root / entry).exists() for entry in entries)
