"""What interfaces count themselves, beside what the hook saw."""

from __future__ import annotations

import pytest

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.flow import NOTHING, PacketCount
from xtrace.model.words import Direction, Share
from xtrace.monitors.flows.coverage import LEAST_GROSS, Coverage

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


SECOND = 1_000_000_000


def watch(
    coverage: Coverage, intervals: int, nic: int, seen: int, direction: Direction = INGRESS
) -> list[Share | None]:
    """Intervals of 5 s in which the interface counts `nic` packets of 100 bytes, the hook `seen`."""
    shares = []
    for number in range(intervals):
        coverage.sample(link(*((0, nic * number) if direction is EGRESS else (nic * number, 0))))
        shares.append(coverage.compare(direction, PacketCount(seen, seen * 100), 5 * SECOND))
    return shares


def test_hook_that_misses_a_share_over_the_window_is_reported_once(coverage: Coverage, said: list[str]) -> None:
    shares = watch(coverage, 40, nic=1000, seen=600)
    assert said == ["eth0: the hook did not see 40 % of the packets counted by the interface as received"]
    assert (shares[2], shares[6], shares[-1]) == (Share.FULL, Share.PARTIAL, Share.PARTIAL)


def test_direction_that_is_missed_is_named(coverage: Coverage, said: list[str]) -> None:
    watch(coverage, 40, nic=1000, seen=0, direction=EGRESS)
    assert said == ["eth0: the hook sees none of the packets that the interface counts as sent"]


@pytest.mark.parametrize(
    "nic, seen", [(1000, 960), (1000, 1000), (1000, 1500), (LEAST_GROSS - 1, 0), (0, 0), (0, 5000)]
)
def test_little_that_is_missed_is_not_reported(coverage: Coverage, said: list[str], nic: int, seen: int) -> None:
    watch(coverage, 40, nic, seen)
    assert said == []


@pytest.mark.parametrize(
    "seen, share, line",
    [
        (0, Share.NONE, "the hook sees none of the packets that the interface counts as received"),
        (400, Share.PARTIAL, "the hook did not see 60 % of the packets counted by the interface as received"),
        (
            2000,
            Share.REPEATED,
            "the hook counts 2.0 times the packets that the interface counts as received:"
            " some come from another interface (tc redirect), or pass it twice (AH, or IPsec at generic XDP)",
        ),
    ],
)
def test_gross_difference_is_reported_at_the_end_of_the_second_interval(
    said: list[str], seen: int, share: Share, line: str
) -> None:
    coverage = Coverage("eth0", said.append, before=link(0))
    shares = []
    for number in range(1, 4):
        coverage.sample(link(1000 * number))
        shares.append(coverage.compare(INGRESS, PacketCount(seen, seen * 100), 5 * SECOND))
        assert len(said) == (number >= 2)
    assert shares == [None, share, share]
    assert said == [f"eth0: {line}"]


def test_hook_that_sees_again_is_full_again_and_not_reported_twice(coverage: Coverage, said: list[str]) -> None:
    watch(coverage, 4, nic=1000, seen=0)
    assert watch(coverage, 4, nic=1000, seen=1000)[-1] is Share.FULL
    assert watch(coverage, 4, nic=1000, seen=0)[-1] is Share.NONE
    assert len(said) == 1


def test_more_segments_than_the_interface_counts_merged_packets_are_no_repetition(
    coverage: Coverage, said: list[str]
) -> None:
    """A veth counts what its peer merged (GSO) once; each segment adds its headers to the bytes."""
    for number in range(10):
        coverage.sample(link(20 * number, size=60_000))
        share = coverage.compare(INGRESS, PacketCount(900, 1_260_000), 5 * SECOND)
    assert (share, said) == (Share.FULL, [])


@pytest.mark.parametrize(
    "seen, share", [(400, Share.PARTIAL), (0, Share.NONE), (600, Share.FULL), (2000, Share.REPEATED)]
)
def test_where_the_hook_sees_merged_packets_only_gross_differences_count(
    coverage: Coverage, seen: int, share: Share
) -> None:
    for number in range(20):
        coverage.sample(link(1000 * number))
        found = coverage.compare(INGRESS, PacketCount(seen, seen * 100), 5 * SECOND, merged=True)
    assert found is share


def test_counters_that_are_a_second_late_are_not_reported_in_short_intervals(
    coverage: Coverage, said: list[str]
) -> None:
    """A burst of 300 ms that the driver shows a second later, in intervals of 100 ms."""
    for number in range(60):
        coverage.sample(link(1000 * max(min(number - 30, 3), 0)))
        coverage.compare(INGRESS, PacketCount(1000, 100_000) if 20 <= number < 23 else NOTHING, SECOND // 10)
    assert said == []


def test_late_counters_that_come_in_the_same_window_are_not_reported(coverage: Coverage, said: list[str]) -> None:
    """The driver shows all at the end of the window."""
    for number in range(8):
        coverage.sample(link(6000 if number >= 6 else 0))
        coverage.compare(INGRESS, PacketCount(1000, 100_000), 5 * SECOND)
    assert said == []


def test_comparison_begins_anew_where_the_counters_could_not_be_read(coverage: Coverage, said: list[str]) -> None:
    for number in range(20):
        coverage.sample(None if number % 2 else link(1000 * number))
        assert coverage.compare(INGRESS, NOTHING, 5 * SECOND) is None
    assert said == []
