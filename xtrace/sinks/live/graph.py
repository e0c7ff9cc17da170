"""Values over time as characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#@"
"""The same for terminals that may lack the blocks."""


def ramp(environment: Mapping[str, str]) -> str:
    """Return the characters for empty to full that a terminal shows: blocks need UTF-8, and more than a console."""
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    is_utf8 = locale.lower().replace("-", "").endswith("utf8")
    return BLOCKS if is_utf8 and environment.get("TERM") != "linux" else ASCII


def sparkline(values: Sequence[float], width: int, height: int, characters: str) -> list[str]:
    """Return `height` lines of at most `width` columns, the last values at the right; the highest fills all lines.

    More values than columns share columns; each shows the mean of its own.
    """
    shown = _means(values, width)
    highest = max(shown, default=0) or 1
    steps = len(characters) - 1
    levels = [round(value / highest * height * steps) or (value > 0) for value in shown]
    return [
        "".join(characters[max(0, min(steps, level - row * steps))] for level in levels)
        for row in reversed(range(height))
    ]


def _means(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [len(values) * column // width for column in range(width + 1)]
    return [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(edges)]
