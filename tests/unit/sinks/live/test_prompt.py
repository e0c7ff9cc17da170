"""The line of the filter shows where one types, whatever its length."""

from __future__ import annotations

import pytest

from xtrace.sinks.live.prompt import Prompt


@pytest.mark.parametrize(
    "text, columns, line, column",
    [
        ("", 80, "filter: ", 8),
        ("tcp", 80, "filter: tcp", 11),
        ("net 10.0.0.0/8", 23, "filter: net 10.0.0.0/8", 22),
        ("net 10.0.0.0/8", 22, "filter: .. 10.0.0.0/8", 21),
    ],
)
def test_long_text_shows_its_end(text: str, columns: int, line: str, column: int) -> None:
    assert Prompt(text).line(columns) == (line, column)


def test_what_is_wrong_stays_beside_a_long_text() -> None:
    prompt = Prompt("net " + "1" * 100)
    assert prompt.finish() is None
    line, column = prompt.line(80)
    assert line.startswith("filter: ..111111  (") and column == 16
