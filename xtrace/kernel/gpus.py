"""Which GPUs a process has open, by the names of their device files."""

from __future__ import annotations

import os
import re
from itertools import islice

from xtrace.kernel.paths import procfs

MOST_DESCRIPTORS = 4096
"""Of one process that are looked at."""

_DEVICE = re.compile(r"/dev/nvidia(\d{1,4})")


def open_gpus(pid: int) -> tuple[int, ...] | None:
    """Numbers of the NVIDIA devices that a process has open (/dev/nvidia3 is 3); None if that cannot be read."""
    directory = procfs() / f"{pid}/fd"
    found = set()
    try:
        with os.scandir(directory) as entries:
            for entry in islice(entries, MOST_DESCRIPTORS):
                device = _DEVICE.fullmatch(os.readlink(entry.path))  # noqa: PTH115 - thousands of them
                if device:
                    found.add(int(device.group(1)))
    except OSError:
        return None if not found else tuple(sorted(found))
    return tuple(sorted(found))
