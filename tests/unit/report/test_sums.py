"""Sums in bounded memory lose nothing, and say what they no longer know."""

from __future__ import annotations

import random
import re

from xtrace.report.charts import nice, rates
from xtrace.report.sums import Count, Largest, Series


def test_keys_and_what_was_folded_always_add_up() -> None:
    chance = random.Random(7)
    largest: Largest[int] = Largest(most=50)
    true: dict[int, int] = {}
    packets = 0
    for _ in range(5000):
        key, size = int(chance.paretovariate(0.5)) % 1000, chance.randrange(1, 1500)
        largest.add(key, 1, size)
        true[key] = true.get(key, 0) + size
        packets += 1
    assert len(largest) <= 50
    assert largest.total() == Count(packets, sum(true.values()))
    chosen, rest = largest.top(10)
    assert sum(count.bytes for _, count in chosen) + rest.bytes == sum(true.values())
    assert largest.doubt > 0
    for key, count in chosen:
        assert true[key] - largest.doubt <= count.bytes <= true[key]


def test_few_keys_are_exact_and_in_order() -> None:
    largest: Largest[str] = Largest()
    for key, size in (("a", 10), ("b", 30), ("a", 5), ("c", 20)):
        largest.add(key, 1, size)
    assert largest.top(2) == ([("b", Count(1, 30)), ("c", Count(1, 20))], Count(2, 15))
    assert (largest.doubt, largest.folded_keys) == (0, 0)
    assert Largest[str]().top(3) == ([], Count())


def test_series_has_rates_and_a_gap_where_nothing_was_recorded() -> None:
    series = Series()
    for second in (1, 2, 3, 10, 11):
        series.add(1000.0 + second, 1.0, 8 * second)
    runs = list(series.runs())
    assert [[point.rate for point in run] for run in runs] == [[8, 16, 24], [80, 88]]
    assert runs[0][0].at == 1000.5
    assert series.peak() == 88


def test_series_stays_bounded_and_keeps_its_sum() -> None:
    series = Series(most=16)
    for second in range(1000):
        series.add(5000.0 + second, 1.0, 100)
    points = [point for run in series.runs() for point in run]
    assert 8 <= len(points) <= 16
    assert all(abs(point.rate - 100) < 1e-9 for point in points)


def test_interval_without_length_has_no_rate() -> None:
    series = Series()
    series.add(1000.0, 0.0, 5)
    assert (list(series.runs()), series.peak()) == ([], 0.0)


def test_grid_lines_are_round_numbers_and_few() -> None:
    for value in (0.7, 1.0, 3.0, 99.0, 87_123_456.0, 4e11):
        step = nice(value)
        assert f"{step:e}"[0] in "125"
        assert 1.5 <= value / step <= 4
    assert nice(0) == 1


def test_long_first_interval_does_not_make_the_others_coarse() -> None:
    series = Series()
    series.add(10.0, 2.7, 270)
    for second in range(11, 20):
        series.add(float(second), 1.0, 100)
    (points,) = series.runs()
    assert len(points) == 10 and {round(point.rate) for point in points} == {100}
    assert series.width_s == 1.0


def test_series_knows_what_it_covers_to_the_second() -> None:
    series = Series()
    series.add(103.5, 2.5, 1)
    series.add(104.5, 1.0, 1)
    assert (series.begin_s, series.end_s) == (101.0, 104.5)


def test_axis_of_a_chart_is_the_time_that_was_watched() -> None:
    series = Series()
    for end in (5.0, 10.0, 15.0):
        series.add(end, 5.0, 500)
    page = rates("rates", {"in": series})
    assert re.findall(r">(\d\d:\d\d:\d\d)</text>", page) == ["00:00:00", "00:00:07", "00:00:15"]
