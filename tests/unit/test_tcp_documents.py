"""docs/tcp.md: the thresholds are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from xtrace.model.tcp_limits import LIMITS

GUIDE = (Path(__file__).parents[2] / "docs/tcp.md").read_text()


def shown(value: float | None) -> str:
    return "off" if value is None else f"{value:g}"


def test_thresholds_are_documented_with_unit_and_defaults() -> None:
    rows = re.findall(r"^\| `(tcp_\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", GUIDE, re.MULTILINE)
    assert {name: tuple(cells) for name, *cells in rows} == {
        name: (limit.unit or "-", shown(limit.warn), shown(limit.critical)) for name, limit in LIMITS.items()
    }
