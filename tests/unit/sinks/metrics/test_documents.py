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
