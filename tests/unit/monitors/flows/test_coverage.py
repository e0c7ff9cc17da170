"""What interfaces count themselves, beside what the hook saw."""

from __future__ import annotations

import pytest

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.flow import PacketCount
from xtrace.model.words import Direction
from xtrace.monitors.flows.coverage import LEAST_PACKETS, WINDOW_NS, Coverage

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def link(rx: int, tx: int = 0, size: int = 100) -> LinkInfo:
    return LinkInfo(4, "eth0", 1, 1, rx_packets=rx, rx_bytes=rx * size, tx_packets=tx, tx_bytes=tx * size)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def coverage(said: list[str]) -> Coverage:
    return Coverage("eth0", said.append)


def test_first_sample_gives_no_interval(coverage: Coverage) -> None:
    assert coverage.passed(INGRESS) is None
    coverage.sample(link(7))
    assert coverage.passed(INGRESS) is None


def test_two_samples_in_a_row_tell_what_passed_between_them(coverage: Coverage) -> None:
    coverage.sample(link(7, 3))
    coverage.sample(link(17, 4))
    assert coverage.passed(INGRESS) == PacketCount(10, 1000)
    assert coverage.passed(EGRESS) == PacketCount(1, 100)


def test_silence_is_zero_and_not_unknown(coverage: Coverage) -> None:
    coverage.sample(link(7))
    coverage.sample(link(7))
    assert coverage.passed(INGRESS) == PacketCount(0, 0)


def test_last_interval_and_one_without_a_sample_are_not_known(coverage: Coverage) -> None:
    coverage.sample(link(7))
    coverage.sample(None)
    assert coverage.passed(INGRESS) is None
    coverage.sample(link(9))
    assert coverage.passed(INGRESS) is None


def test_counters_that_began_anew_are_not_known(coverage: Coverage) -> None:
    coverage.sample(link(70))
    coverage.sample(link(7))
    assert coverage.passed(INGRESS) is None


def test_link_without_counters_is_not_known(coverage: Coverage) -> None:
    for _ in range(2):
        coverage.sample(LinkInfo(4, "eth0", 1, 1))
    assert coverage.passed(INGRESS) is None


def watch(coverage: Coverage, intervals: int, nic: int, seen: int, direction: Direction = INGRESS) -> None:
    """Intervals of 5 s in which the interface counts `nic` packets and the hook `seen`."""
    for number in range(intervals):
        coverage.sample(link(*((0, nic * number) if direction is EGRESS else (nic * number, 0))))
        coverage.compare(direction, PacketCount(seen, seen * 100), number * 5_000_000_000)


def test_hook_that_misses_a_share_over_the_window_is_reported_once(coverage: Coverage, said: list[str]) -> None:
    watch(coverage, 40, nic=1000, seen=600)
    assert said == ["eth0: the hook did not see 40 % of the packets counted by the interface as received"]


def test_direction_that_is_missed_is_named(coverage: Coverage, said: list[str]) -> None:
    watch(coverage, 40, nic=1000, seen=0, direction=EGRESS)
    assert said == ["eth0: the hook did not see 100 % of the packets counted by the interface as sent"]


@pytest.mark.parametrize("nic, seen", [(1000, 960), (1000, 1000), (1000, 5000), (LEAST_PACKETS // 7 // 2, 0), (0, 0)])
def test_little_that_is_missed_is_not_reported(coverage: Coverage, said: list[str], nic: int, seen: int) -> None:
    watch(coverage, 40, nic, seen)
    assert said == []


def test_nothing_is_reported_before_the_window_is_full(coverage: Coverage, said: list[str]) -> None:
    watch(coverage, WINDOW_NS // 5_000_000_000, nic=1000, seen=0)
    assert said == []


def test_late_counters_that_come_in_the_same_window_are_not_reported(coverage: Coverage, said: list[str]) -> None:
    """The driver shows all at the end of the window."""
    for number in range(8):
        coverage.sample(link(6000 if number >= 6 else 0))
        coverage.compare(INGRESS, PacketCount(1000, 100_000), number * 5_000_000_000)
    assert said == []
