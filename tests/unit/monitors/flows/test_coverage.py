"""What interfaces count themselves, beside what the hook saw."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize("unknown", ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"])
def test_nothing_is_known_where_one_of_the_counters_is_not(coverage: Coverage, unknown: str) -> None:
    nothing: dict[str, Any] = {unknown: None}
    for at in (0, 1):
        coverage.sample(link(7 * at, 3 * at)._replace(**nothing))
    assert (coverage.passed(INGRESS), coverage.passed(EGRESS)) == (None, None)


def test_the_first_packets_of_all_are_counted_from_0(coverage: Coverage) -> None:
    coverage.sample(link(0, 0))
    coverage.sample(link(7, 3))
    assert (coverage.passed(INGRESS), coverage.passed(EGRESS)) == (PacketCount(7, 700), PacketCount(3, 300))


def test_counters_that_began_anew_are_not_known(coverage: Coverage) -> None:
    coverage.sample(link(70))
    coverage.sample(link(7))
    assert coverage.passed(INGRESS) is None


@pytest.mark.parametrize("now", [(6, 7000), (70, 600)], ids=["packets", "bytes"])
def test_one_counter_that_fell_makes_both_unknown_until_the_next_sample(
    coverage: Coverage, now: tuple[int, int]
) -> None:
    """A driver that resets both is read in between, or keeps one of them elsewhere."""
    packets, size = now
    coverage.sample(link(7))
    coverage.sample(LinkInfo(4, "eth0", 1, 1, rx_packets=packets, rx_bytes=size, tx_packets=0, tx_bytes=0))
    assert coverage.passed(INGRESS) is None
    assert coverage.passed(EGRESS) == PacketCount(0, 0)
    coverage.sample(LinkInfo(4, "eth0", 1, 1, rx_packets=packets + 1, rx_bytes=size + 60, tx_packets=0, tx_bytes=0))
    assert coverage.passed(INGRESS) == PacketCount(1, 60)


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


@pytest.mark.parametrize("seen, missed", [(940, 6), (949, 5), (950, None), (951, None)])
def test_more_than_a_twentieth_that_is_missed_over_half_a_minute_is_reported(
    coverage: Coverage, said: list[str], seen: int, missed: int | None
) -> None:
    watch(coverage, 8, nic=1000, seen=seen)
    line = f"eth0: the hook did not see {missed} % of the packets counted by the interface as received"
    assert said == ([line] if missed else [])


@pytest.mark.parametrize("packets", [99, 100, 101])
def test_fewer_than_a_hundred_packets_in_half_a_minute_decide_nothing(said: list[str], packets: int) -> None:
    """A quarter is missed, which is not gross."""
    coverage, passed = Coverage("eth0", said.append, before=link(0)), 0
    for number in range(1, 7):
        before, passed = passed, packets * number // 6
        coverage.sample(link(passed))
        coverage.compare(INGRESS, PacketCount(12, 1200), 5 * SECOND)
        assert passed - before > 12
    assert len(said) == (packets >= 100)


@pytest.mark.parametrize("length_ns", [29 * SECOND, 30 * SECOND])
def test_smaller_shares_are_judged_after_half_a_minute_and_not_before(said: list[str], length_ns: int) -> None:
    coverage = Coverage("eth0", said.append, before=link(0))
    coverage.sample(link(1000))
    coverage.compare(INGRESS, PacketCount(800, 80_000), length_ns)
    assert len(said) == (length_ns >= 30 * SECOND)


@pytest.mark.parametrize(
    "seen, share",
    [
        (PacketCount(499, 49_900), Share.PARTIAL),
        (PacketCount(500, 49_900), Share.FULL),
        (PacketCount(499, 50_000), Share.FULL),
        (PacketCount(1500, 150_100), Share.FULL),
        (PacketCount(1501, 150_000), Share.FULL),
        (PacketCount(1501, 150_001), Share.REPEATED),
    ],
)
def test_gross_is_less_than_half_or_more_than_one_and_a_half_of_packets_and_bytes(
    coverage: Coverage, seen: PacketCount, share: Share
) -> None:
    for number in range(3):
        coverage.sample(link(1000 * number))
        found = coverage.compare(INGRESS, seen, 5 * SECOND)
    assert found is share


@pytest.mark.parametrize("nic, seen, share", [(10, 0, Share.NONE), (9, 0, None), (1, 10, Share.REPEATED), (1, 9, None)])
def test_ten_packets_on_either_side_are_enough_for_a_gross_difference(
    coverage: Coverage, nic: int, seen: int, share: Share | None
) -> None:
    assert watch(coverage, 3, nic=nic, seen=seen)[-1] is share


def test_packets_where_the_interface_counts_none_decide_nothing(coverage: Coverage) -> None:
    """Some drivers count nothing at all."""
    assert watch(coverage, 20, nic=0, seen=1000) == [None] * 20


def test_shares_are_of_one_direction_each(coverage: Coverage, said: list[str]) -> None:
    for number in range(3):
        coverage.sample(link(1000 * number, 1000 * number))
        shares = [coverage.compare(INGRESS, NOTHING, 5 * SECOND)]
        shares.append(coverage.compare(EGRESS, PacketCount(2000, 200_000), 5 * SECOND))
    assert shares == [Share.NONE, Share.REPEATED]
    assert said == [
        "eth0: the hook sees none of the packets that the interface counts as received",
        "eth0: the hook counts 2.0 times the packets that the interface counts as sent:"
        " some pass it twice, as after a detour (ifb), or are dropped behind it",
    ]


@pytest.mark.parametrize(
    "seen, share, line",
    [
        (0, Share.NONE, "the hook sees none of the packets that the interface counts as received"),
        (400, Share.PARTIAL, "the hook did not see 60 % of the packets counted by the interface as received"),
        (
            2000,
            Share.REPEATED,
            "the hook counts 2.0 times the packets that the interface counts as received:"
            " some come from another interface (tc redirect),"
            " or pass it twice (IPsec at generic XDP, or in UDP not on port 4500)",
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


def test_verdict_from_before_an_unknown_interval_is_not_the_first_of_two(said: list[str]) -> None:
    coverage, told = Coverage("eth0", said.append, before=link(0)), []
    for sample in (link(1000), None, link(2000), link(3000), link(4000)):
        coverage.sample(sample)
        told.append((coverage.compare(INGRESS, NOTHING, 5 * SECOND), len(said)))
    assert told == [(None, 0), (None, 0), (None, 0), (None, 0), (Share.NONE, 1)]


def test_short_intervals_from_before_an_unknown_one_do_not_count_in_the_next_comparison() -> None:
    coverage = Coverage("eth0", lambda line: None, before=link(0))
    for sample, seen in ((link(1000), 0), (None, 0), (link(1000), 0)):
        coverage.sample(sample)
        coverage.compare(INGRESS, PacketCount(seen, 100 * seen), SECOND // 2)
    for number in range(1, 5):
        coverage.sample(link(1000 + 20 * number))
        share = coverage.compare(INGRESS, PacketCount(20, 2000), SECOND // 2)
        assert share is (Share.FULL if number == 4 else None)
