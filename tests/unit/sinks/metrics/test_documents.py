"""docs/metrics.md and what is shipped for servers name the metrics that exist, with their kinds, units and texts."""

from __future__ import annotations

import re

from tests.push.shipped import ALERTS, DASHBOARD, DESCRIBED, DOCUMENT, documented


def test_document_names_every_metric_and_nothing_else_is_used() -> None:
    rows = re.findall(r"^\| `(xtrace_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert {name: (kind, unit, text) for name, kind, unit, text in rows} == {
        name: (metric.kind, metric.unit or "-", metric.help) for name, metric in DESCRIBED.items()
    }
    used = {
        name
        for text in (DASHBOARD.read_text(), ALERTS.read_text(), *documented())
        for name in re.findall(r"\bxtrace_\w+", text)
    }
    assert used <= set(DESCRIBED)


UNITS = {
    "bytes": "bytes",
    "seconds": "seconds",
    "packets": "packets",
    "share": "ratio",
    "ratio": "ratio",
    "ranks": "ranks",
    "calls": "calls",
    "flows": "flows",
    "samples": "samples",
}
"""What the last word of a metric's name says of its unit."""


def test_kind_and_unit_are_what_the_name_says() -> None:
    """The document is written from the same table; names are public, and by their words receivers know a unit."""
    for name, metric in DESCRIBED.items():
        assert metric.kind == ("counter" if name.endswith("_total") else "gauge"), name
        assert metric.help.endswith("."), name
        word = name.removesuffix("_total").rpartition("_")[2]
        if word in UNITS and not name.endswith("per_second"):
            assert metric.unit in (UNITS[word], ""), name
