"""The wall clock beside the monotonic one."""

from __future__ import annotations

import pytest

from xtrace.monitors import wall as wall_module


def test_wall_clock_is_read_where_nothing_came_between_the_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three readings: an interrupt of 900 ns, none, one of 300 ns, each after the wall clock was read."""
    wall = 10**18
    times = iter([1000, wall + 1000, 1900, 2000, wall + 2000, 2000, 3000, wall + 3000, 3300])

    class Clock:
        @staticmethod
        def monotonic_ns() -> int:
            return next(times)

        time_ns = monotonic_ns

    monkeypatch.setattr(wall_module, "time", Clock)
    assert wall_module.wall_offset() == wall
