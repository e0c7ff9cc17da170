"""Tables within a width."""

from __future__ import annotations

import pytest

from xtrace.sinks.live.layout import table
from xtrace.sinks.live.pane import Column, Row
from xtrace.sinks.text.fit import Endpoint

COLUMNS = (Column("NAME"), Column("BIT/S", is_number=True, order="rate"), Column("SOURCE"), Column(""))
LONG = Endpoint("2001:db8:1234:5678:9abc:def0:1234:5678", ":443", brackets=True)
ROWS = [Row(["eth0", "1.0 M", LONG, "dscp=26"]), Row(["e", "20.0 k", Endpoint("10.0.0.1", ":1"), "type=8 code=0"])]


def test_columns_stand_below_their_headings() -> None:
    assert [line.rstrip() for line in table(COLUMNS, ROWS, "rate", 100)] == [
        "NAME  BIT/S*  SOURCE",
        f"eth0   1.0 M  {LONG}  dscp=26",
        f"e     20.0 k  10.0.0.1:1{' ' * 34}  type=8 code=0",
    ]


@pytest.mark.parametrize("width", [1, 5, 20, 40, 60, 75, 80, 200])
def test_every_line_is_as_wide_as_it_may_be(width: int) -> None:
    assert {len(line) for line in table(COLUMNS, ROWS, "rate", width)} == {width}


def test_addresses_lose_their_middle_before_anything_is_cut() -> None:
    assert list(table(COLUMNS, ROWS, "rate", 60)) == [
        f"{'NAME BIT/S* SOURCE':60}",
        "eth0  1.0 M [2001:db8:1234:56..c:def0:1234:5678]:443 dscp=26",
        f"{'e    20.0 k 10.0.0.1:1  type=8 code=0':60}",
    ]


def test_addresses_lose_their_middle_beside_rows_that_have_a_word_in_their_place() -> None:
    rows = [*ROWS, Row(["e", "0", "unattributed", ""])]
    assert list(table(COLUMNS, rows, "rate", 60))[:3] == list(table(COLUMNS, ROWS, "rate", 60))


def test_gaps_are_narrow_where_wide_ones_would_not_fit() -> None:
    needed = len(f"eth0   1.0 M  {LONG}  type=8 code=0")
    assert next(table(COLUMNS, ROWS, "rate", needed)).startswith("NAME  BIT/S*  SOURCE")
    assert next(table(COLUMNS, ROWS, "rate", needed - 1)).startswith("NAME BIT/S* SOURCE")


def test_table_without_rows_has_its_headings() -> None:
    assert [line.rstrip() for line in table(COLUMNS, [], "rate", 80)] == ["NAME  BIT/S*  SOURCE"]
