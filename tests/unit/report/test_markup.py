"""Pieces of the report's HTML."""

from __future__ import annotations

import re

import pytest

from xtrace.report.markup import NUMBER, TEXT, bar
from xtrace.report.style import CSS


@pytest.mark.parametrize(
    "part, whole, width", [(1, 4, "25.0"), (2, 3, "66.7"), (7, 7, "100.0"), (0, 9, "0.0"), (0, 0, "0.0")]
)
def test_bar_is_as_wide_as_the_share(part: int, whole: int, width: str) -> None:
    assert f"width:{width}%" in bar(part, whole)


def test_columns_of_numbers_have_a_rule_of_the_style() -> None:
    assert re.search(rf"td\.{NUMBER}\b[^{{]*{{[^}}]*text-align:right", CSS)
    assert TEXT == ""
