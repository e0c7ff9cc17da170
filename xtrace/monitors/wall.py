"""Where the wall clock stands beside CLOCK_MONOTONIC, by which intervals are measured."""

from __future__ import annotations

import time

CLOCK_READINGS = 3


def wall_offset() -> int:
    """The offset from CLOCK_MONOTONIC to wall clock in ns: the closest of a few readings, as any may be interrupted."""
    readings = []
    for _ in range(CLOCK_READINGS):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]
