"""Rates over time: bounded, and true."""

from __future__ import annotations

import pytest

from xtrace.sinks.live.graph import ASCII, BLOCKS, ramp, sparkline
from xtrace.sinks.live.history import MOST_KEYS, POINTS, History


def test_rates_begin_with_a_key_and_are_zero_where_it_carried_nothing() -> None:
    history: History[str] = History()
    for size in (None, 1000, None, 500):
        history.begin(5)
        if size is not None:
            history.add("a", size)
    assert list(history.rates("a")) == [200, 0, 100]
    assert history.span_s(3) == 15
    assert list(history.rates("unknown")) == []


def test_short_intervals_share_a_point() -> None:
    history: History[str] = History()
    for _ in range(20):
        history.begin(0.5)
        history.add("a", 100)
    assert list(history.rates("a")) == [200] * 10


def test_only_the_last_points_are_kept() -> None:
    history: History[str] = History()
    last = 2 * POINTS + 7
    for number in range(last):
        history.begin(1)
        history.add("a", number)
        if number in (0, last - POINTS):
            history.add(f"at {number}", 1)
    assert list(history.rates("a")) == list(range(last - POINTS, last))
    assert list(history.rates("at 0")) == []
    assert list(history.rates(f"at {last - POINTS}")) == [1] + [0] * (POINTS - 1)
    history.begin(1)
    assert list(history) == ["a"]


def test_of_too_many_keys_those_that_were_large_last_are_kept() -> None:
    history: History[int] = History()
    history.begin(1)
    for number in range(MOST_KEYS):
        history.add(number, 1)
    history.add(0, 1)
    history.add(1, 1, is_large=False)
    history.add(MOST_KEYS, 1)
    history.add(-1, 1, is_large=False)
    assert len(list(history)) == MOST_KEYS
    assert 0 in history and 1 not in history and MOST_KEYS in history and -1 not in history
    assert list(history.rates(0)) == [2]


def test_graph_fills_its_lines_up_to_the_highest_value() -> None:
    assert sparkline([0, 1, 2, 4], 10, 1, BLOCKS) == [" ▂▄█"]
    assert sparkline([0, 1, 2, 4], 10, 2, BLOCKS) == ["   █", " ▄██"]
    assert sparkline([0.0, 0.0], 10, 1, BLOCKS) == ["  "]
    assert sparkline([], 10, 2, BLOCKS) == ["", ""]


def test_graph_shows_any_traffic_at_all() -> None:
    assert sparkline([1, 1_000_000], 10, 1, BLOCKS) == ["▁█"]
    assert sparkline([1, 1_000_000], 10, 1, ASCII) == [".@"]


def test_more_values_than_columns_share_them() -> None:
    assert sparkline([0, 4, 8, 8], 2, 1, BLOCKS) == ["▂█"]


def test_blocks_need_utf8_and_more_than_a_console() -> None:
    assert ramp({"LANG": "en_US.UTF-8", "TERM": "xterm"}) == BLOCKS
    assert ramp({"LANG": "en_US.UTF-8", "LC_ALL": "C"}) == ASCII
    assert ramp({"LANG": "C.utf8", "TERM": "linux"}) == ASCII
    assert ramp({}) == ASCII


@pytest.mark.parametrize(
    "values, height, lines",
    [
        ([0, 3, 8], 1, [" ▃█"]),
        ([0, 3, 8], 2, ["  █", " ▆█"]),
        ([1, 2, 3, 4, 5, 6, 7, 8], 1, ["▁▂▃▄▅▆▇█"]),
        ([16, 8, 4, 0], 3, ["█   ", "█▄  ", "██▆ "]),
        ([0.25, 0.5], 1, ["▄█"]),
    ],
)
def test_graph_has_a_block_per_eighth_of_a_line(values: list[float], height: int, lines: list[str]) -> None:
    assert sparkline(values, 10, height, BLOCKS) == lines


def test_columns_of_a_graph_have_as_many_values_as_there_are_for_them() -> None:
    """Seven values in three columns: two, two and three of them."""
    assert sparkline([2, 4, 6, 8, 0, 6, 3], 3, 1, ASCII) == [sparkline([3, 7, 3], 3, 1, ASCII)[0]]
    assert sparkline([1, 2, 4, 8], 4, 1, BLOCKS) == ["▁▂▄█"]


@pytest.mark.parametrize("name", ["LC_ALL", "LC_CTYPE", "LANG"])
def test_each_variable_of_the_locale_counts_and_the_first_wins(name: str) -> None:
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    later = dict.fromkeys(names[names.index(name) + 1 :], "C")
    empty = dict.fromkeys(names[: names.index(name)], "")
    assert ramp({name: "de_DE.UTF-8", "TERM": "xterm", **later, **empty}) == BLOCKS
    assert ramp({name: "C", "TERM": "xterm", **dict.fromkeys(later, "C.UTF-8")}) == ASCII
