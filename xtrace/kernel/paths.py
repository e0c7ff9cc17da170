"""Paths of the machine's proc and sys: below /host if mounted there in a container, else the usual ones.

What belongs to this process (/proc/self, /sys/class/net) is always read from the usual place.
"""

from __future__ import annotations

from pathlib import Path

from xtrace.errors import UsageError

HOST = Path("/host")
"""Where containers mount the machine's proc and sys: `-v /proc:/host/proc:ro -v /sys:/host/sys:ro`."""

_chosen: dict[str, str] = {}
"""proc and sys directories chosen by the user."""


def choose(proc: str | None = None, sys: str | None = None) -> None:
    """Use these directories from now on; None is the default. Raises UsageError."""
    _chosen.clear()
    _chosen.update({name: path for name, path in (("proc", proc), ("sys", sys)) if path})
    procfs()
    sysfs()


def procfs() -> Path:
    """Return the chosen directory, else /host/proc if mounted, else /proc. Raises UsageError."""
    return _root("proc", ("stat",), "--procfs and XTRACE_PROCFS")


def sysfs() -> Path:
    """Return the chosen directory, else /host/sys if mounted, else /sys. Raises UsageError."""
    return _root("sys", ("kernel", "class"), "--sysfs and XTRACE_SYSFS")


def _root(name: str, entries: tuple[str, ...], settings: str) -> Path:
    """Return the root of a file system; one of `entries` must exist in it, so that it is not another directory."""
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
