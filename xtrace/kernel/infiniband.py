"""RDMA devices in /sys/class/infiniband (Documentation/ABI/stable/sysfs-class-infiniband)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from xtrace.kernel import paths

MOST_BYTES = 4096
"""A sysfs attribute is at most a page long."""

MOST_DIGITS = 20
"""of a 64-bit number"""
LONGEST_QUOTE = 60
"""bytes of a bad value that an error shows"""

FIRST_GIDS = 8
"""Entries of the GID table that are searched for a netdev: rxe's table has 1024, and uses the first ones."""

_LID = re.compile(r"0x[0-9a-fA-F]{1,8}")
_SMALL = re.compile(r"[0-9]{1,9}")
_STATE = re.compile(r"(\d+): *\S.*")


def read(path: str | Path) -> str:
    """An attribute, without surrounding white space. Raises OSError."""
    # os.open() and one read(): a tick reads thousands of these, and file objects cost four times that
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, MOST_BYTES).decode("utf-8", "surrogateescape").strip()
    finally:
        os.close(descriptor)


def read_number(path: str) -> int:
    """A counter: decimal digits only. Raises OSError; ValueError with the text of anything else.

    Old kernels write `N/A (no PMA)`; a negative number is not a count either.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)
    digits = data.strip()
    if digits.isdigit() and len(digits) <= MOST_DIGITS:
        return int(digits)
    raise ValueError(digits[:LONGEST_QUOTE].decode("utf-8", "replace"))


def read_or_none(path: str | Path) -> str | None:
    """An attribute; None if it is missing, unreadable or empty."""
    try:
        return read(path) or None
    except OSError:
        return None


def root() -> Path:
    """Return the directory of the class."""
    return paths.sysfs() / "class" / "infiniband"


def device_names() -> list[str]:
    """The devices' names in natural order: mlx5_2 before mlx5_10. Empty without RDMA."""
    with suppress(OSError):
        return sorted((entry.name for entry in root().iterdir()), key=natural)
    return []


def is_broken_link(device: str) -> bool:
    """Whether a device's entry is a link whose target does not exist."""
    entry = root() / device
    return entry.is_symlink() and not entry.exists()


def is_virtual_function(device: str) -> bool:
    """Whether the device is a virtual function of another device of this machine (SR-IOV's `physfn`)."""
    return (root() / device / "device" / "physfn").exists()


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that compares digits as numbers."""
    parts = filter(None, re.split(r"([0-9]+)", name))
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts]


def port_numbers(device: str) -> list[int]:
    """A device's ports. Raises OSError."""
    names = (entry.name for entry in (root() / device / "ports").iterdir())
    return sorted(int(name) for name in names if _SMALL.fullmatch(name))


def port_directory(device: str, port: int) -> Path:
    """Return the directory of one port."""
    return root() / device / "ports" / str(port)


def entries(directory: str | Path) -> list[str]:
    """The names in a directory; empty if it does not exist."""
    with suppress(OSError):
        return sorted(entry.name for entry in Path(directory).iterdir())
    return []


def state(text: str | None, names: Sequence[str]) -> str | None:
    """Netlink's name for `4: ACTIVE` or `5: LinkUp`, from `names` by number; other text unchanged."""
    found = _STATE.fullmatch(text or "")
    number = int(found.group(1)) if found else len(names)
    return names[number] if number < len(names) else text


_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) *([GM])b/sec\b.*")


def rate_bps(text: str | None) -> int | None:
    """Bits per second of `100 Gb/sec (4X EDR)`; None for any other text."""
    found = _RATE.fullmatch(text or "")
    return round(float(found.group(1)) * (10**9 if found.group(2) == "G" else 10**6)) if found else None


def parent_link(device: str, *below: str) -> str | None:
    """Return the target's name of the device link, or of a link below it: the PCI address, the driver."""
    link = root().joinpath(device, "device", *below)
    return link.resolve().name if link.exists() else None


def numa_node(device: str) -> int | None:
    """The NUMA node of the device's slot; None without one."""
    text = read_or_none(root() / device / "device" / "numa_node") or ""
    return int(text) if _SMALL.fullmatch(text) else None


def lid(device: str, port: int) -> int | None:
    """The port's local identifier; None if unknown or 0."""
    text = read_or_none(port_directory(device, port) / "lid") or ""
    return int(text, 16) or None if _LID.fullmatch(text) else None


def netdev(device: str, port: int) -> str | None:
    """Return the port's network interface, by its GID table, else by the parent device's interfaces."""
    named = port_directory(device, port) / "gid_attrs" / "ndevs"
    for index in range(FIRST_GIDS):
        found = read_or_none(named / str(index))  # EINVAL for unused entries
        if found:
            return found
    return _by_parent(device, port)


def _by_parent(device: str, port: int) -> str | None:
    """Find a port's interface by dev_port, which counts from 0; drivers with one function per port leave it 0."""
    nets = root() / device / "device" / "net"
    candidates = entries(nets)
    of_port = [name for name in candidates if read_or_none(nets / name / "dev_port") == str(port - 1)]
    if len(of_port) == 1:
        return of_port[0]
    return candidates[0] if len(candidates) == 1 else None
