"""What is shipped for servers: metrics, and the queries of dashboards, alerts, documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

from deploy.snapshot.series import DESCRIBED

__all__ = ["DESCRIBED"]

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "xtrace-catch.json"
ALERTS = ROOT / "deploy" / "alerts" / "xtrace-catch.yml"
DOCUMENT = ROOT / "docs" / "metrics.md"


def panels() -> list[tuple[str, str]]:
    """Return titles and queries of all panels."""
    shown = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in shown for target in panel.get("targets", ())]


def filled(expression: str, rate_interval_s: int = 5, range_s: int = 60) -> str:
    """Return a panel's query with Grafana's variables set."""
    values = {
        "$host": ".*",
        "$interface": ".*",
        "$__rate_interval_ms": str(rate_interval_s * 1000),
        "$__rate_interval": f"{rate_interval_s}s",
        "$__range": f"{range_s}s",
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def alerts() -> dict[str, str]:
    """Return the expressions of the alerts by name: blocks under `expr: |`."""
    found = re.findall(r"- alert: (\w+)\n +expr: \|\n((?: {10}.*\n)+)", ALERTS.read_text())
    return {name: " ".join(expression.split()) for name, expression in found}


def documented() -> list[str]:
    """Return the queries of docs/metrics.md."""
    blocks = re.findall(r"```promql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
