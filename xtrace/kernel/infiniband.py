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

FIRST_GIDS = 8
"""GID table entries searched for a netdev: rxe's table has 1024 entries, of which the first are in use."""

_STATE = re.compile(r"(\d+): *\S.*")


def read(path: str | Path) -> str:
    """Return an attribute without surrounding white space. Raises OSError."""
    # os.open() and one read(): a tick reads thousands of files, and file objects cost four times as much
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, MOST_BYTES).decode("utf-8", "surrogateescape").strip()
    finally:
        os.close(descriptor)


def read_number(path: str) -> int:
    """Return a counter. Raises OSError, or ValueError with a text such as `N/A (no PMA)` of old kernels."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)
    try:
        return int(data)
    except ValueError:
        raise ValueError(data.decode("utf-8", "replace").strip()) from None


def read_or_none(path: str | Path) -> str | None:
    """Return an attribute; None if it is missing, unreadable or empty."""
    try:
        return read(path) or None
    except OSError:
        return None


def root() -> Path:
    """Return the directory of the class."""
    return paths.sysfs() / "class" / "infiniband"


def device_names() -> list[str]:
    """Return device names in natural order (mlx5_2 before mlx5_10); empty without RDMA."""
    with suppress(OSError):
        return sorted((entry.name for entry in root().iterdir()), key=natural)
    return []


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares digits as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def port_numbers(device: str) -> list[int]:
    """Return a device's port numbers. Raises OSError."""
    ports = (root() / device / "ports").iterdir()
    return sorted(int(entry.name) for entry in ports if entry.name.isdigit())


def port_directory(device: str, port: int) -> Path:
    """Return the directory of one port."""
    return root() / device / "ports" / str(port)


def entries(directory: str | Path) -> list[str]:
    """Return the names in a directory; empty if it does not exist."""
    with suppress(OSError):
        return sorted(entry.name for entry in Path(directory).iterdir())
    return []


def state(text: str | None, names: Sequence[str]) -> str | None:
    """Return netlink's name for `4: ACTIVE` or `5: LinkUp`, from `names` by number; other text unchanged."""
    found = _STATE.fullmatch(text or "")
    number = int(found.group(1)) if found else len(names)
    return names[number] if number < len(names) else text


_RATE = re.compile(r"(\d+(?:\.\d+)?) *([GM])b/sec\b.*")


def rate_bps(text: str | None) -> int | None:
    """Return the bits per second of `100 Gb/sec (4X EDR)`; None if it cannot be parsed."""
    found = _RATE.fullmatch(text or "")
    return round(float(found.group(1)) * (10**9 if found.group(2) == "G" else 10**6)) if found else None


def parent_link(device: str, *below: str) -> str | None:
    """Return the target's name of the device link, or of a link below it: the PCI address, the driver."""
    link = root().joinpath(device, "device", *below)
    return link.resolve().name if link.exists() else None


def numa_node(device: str) -> int | None:
    """Return the NUMA node of the device's slot; None if there is none."""
    text = read_or_none(root() / device / "device" / "numa_node")
    with suppress(ValueError):
        return int(text) if text is not None and int(text) >= 0 else None
    return None


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
