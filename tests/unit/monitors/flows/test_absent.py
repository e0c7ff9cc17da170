"""Interfaces without a program: when they are tried again."""

from __future__ import annotations

import pytest

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.monitors.flows import absent as absent_module
from xtrace.monitors.flows.absent import Absentees

ETH0 = LinkInfo(index=4, name="eth0", flags=1, link_type=1)
SECOND = 10**9


class Clock:
    now = 1_000_000 * SECOND
    """a machine that has been up for days"""

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(absent_module, "time", made)
    return made


def test_pause_is_told_in_seconds_from_now_and_doubles_while_others_detach_at_once(clock: Clock) -> None:
    absentees = Absentees()
    pauses = []
    for _ in range(7):
        pauses.append(absentees.detached(ETH0, "detached"))
        assert absentees.due() == []
        clock.now += round(pauses[-1] * SECOND)
        assert absentees.due() == [4]
        absentees.attached(ETH0)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    clock.now += 3600 * SECOND
    assert absentees.detached(ETH0, "detached") == 2


def test_interface_whose_last_attempt_failed_is_known_until_it_is_attached(clock: Clock) -> None:
    absentees = Absentees()
    assert not absentees.has_failed(ETH0.index)
    absentees.refused(ETH0, "EBUSY")
    assert absentees.has_failed(ETH0.index)
    assert not absentees.has_failed(ETH0.index + 1)
    absentees.attached(ETH0)
    assert not absentees.has_failed(ETH0.index)
