"""Intervals end with a flip and a grace period; the last one without a flip, with both buffers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from xtrace.kernel import abi
from xtrace.monitors import buffers
from xtrace.monitors.buffers import Ended, Switch


class Clock:
    """CLOCK_MONOTONIC: a second further with each look."""

    now = 0

    def monotonic_ns(self) -> int:
        self.now += 1_000_000_000
        return self.now


class Grace:
    """The map of maps whose update waits for all programs that run; takes three seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.updates: list[tuple[bytes, bytes]] = []

    def update(self, key: bytes, value: bytes) -> None:
        self.clock.now += 3_000_000_000
        self.updates.append((key, value))


class Word:
    """The word that programs read to know their buffer."""

    def __init__(self) -> None:
        self.value = 0

    def load(self) -> int:
        return self.value

    def store(self, value: int) -> None:
        self.value = value


class Element:
    def fileno(self) -> int:
        return 42


@pytest.fixture
def grace(monkeypatch: pytest.MonkeyPatch) -> Grace:
    clock = Clock()
    monkeypatch.setattr(buffers, "time", clock)
    return Grace(clock)


@pytest.fixture
def switch(grace: Grace) -> Switch:
    made = Switch.__new__(Switch)
    made.grace_ns = 0
    made._grace, made._element, made._active = cast("Any", grace), cast("Any", Element()), cast("Any", Word())
    return made


def test_the_buffers_take_turns_and_an_interval_ends_before_the_grace_period(switch: Switch, grace: Grace) -> None:
    seconds = 1_000_000_000
    assert switch.inactive == 1
    assert switch.flip() == Ended(1 * seconds, (0,))
    assert (switch.inactive, switch.grace_ns) == (0, 4 * seconds)
    assert switch.flip() == Ended(7 * seconds, (1,))
    assert switch.inactive == 1
    assert switch.finish() == Ended(13 * seconds, (0, 1))
    assert switch.inactive == 1, "no program is left that would read it"
    assert grace.updates == 3 * [(abi.U32.pack(0), abi.U32.pack(42))]
