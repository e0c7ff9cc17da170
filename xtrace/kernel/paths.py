"""Where proc and sys of the machine are: mounted at /host in a container, else where they always are.

What belongs to this process (its /proc/self, its /sys/class/net) is read at its usual place.
"""

from __future__ import annotations

from pathlib import Path

from xtrace.errors import UsageError

HOST = Path("/host")
"""Where a container gets the machine's proc and sys: `-v /proc:/host/proc:ro -v /sys:/host/sys:ro`."""

_chosen: dict[str, str] = {}
"""Directories of this process's proc and sys, where the user chose them."""


def choose(proc: str | None = None, sys: str | None = None) -> None:
    """Use these directories from now on; None stands for the default. Raises UsageError."""
    _chosen.clear()
    _chosen.update({name: path for name, path in (("proc", proc), ("sys", sys)) if path})
    procfs()
    sysfs()


def procfs() -> Path:
    """The chosen directory, else /host/proc if mounted, else /proc. Raises UsageError."""
    return _root("proc", ("stat",), "--procfs and XTRACE_PROCFS")


def sysfs() -> Path:
    """The chosen directory, else /host/sys if mounted, else /sys. Raises UsageError."""
    return _root("sys", ("kernel", "class"), "--sysfs and XTRACE_SYSFS")


def _root(name: str, entries: tuple[str, ...], settings: str) -> Path:
    """One of `entries` exists in every mounted one: another directory, or an empty one, is not mistaken for it."""
    given = _chosen.get(name)
    if given:
        if not Path(given).is_dir():
            raise UsageError(f"{given}: no such directory ({settings} must name a mounted {name} file system)")
        if not _is_one(Path(given), entries):
            missing = " and ".join(entries)
            raise UsageError(
                f"{given}: not a {name} file system: {missing} not found in it ({settings} must name a mounted one)"
            )
        return Path(given)
    mounted = HOST / name
    return mounted if _is_one(mounted, entries) else Path("/", name)


def _is_one(root: Path, entries: tuple[str, ...]) -> bool:
    return any((root / entry).exists() for entry in entries)
