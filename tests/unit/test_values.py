"""Durations as errors and documents write them."""

from __future__ import annotations

import pytest

from xtrace.values import duration, written_duration


@pytest.mark.parametrize("text", ["1ms", "100ms", "1s", "1500ms", "90s", "1m", "1h", "36h"])
def test_duration_is_written_in_its_largest_unit_and_read_again(text: str) -> None:
    milliseconds = duration(1, 10**9)(text, "x")
    assert written_duration(milliseconds) == text
