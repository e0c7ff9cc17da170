"""docs/rdma.md and the alerts say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from xtrace.model import nccl_limits, rdma_limits
from xtrace.model.rdma_counters import FIGURES
from xtrace.sinks.metrics.rdma import DESCRIBED

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/rdma.md").read_text()
ALERTS = ROOT / "deploy/alerts/rdma.yml"


def rows(heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the table whose first heading this is."""
    _, _, after = GUIDE.partition(f"\n| {heading} |")
    lines = after.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_figure_is_documented_with_the_drivers_names_in_their_order() -> None:
    documented = {name: re.findall(r"`(?:counters/)?([^`]+)`", cells[0]) for name, cells in rows("figure").items()}
    assert documented == {
        name: [counter for source in sources for counter in source.names] for name, sources in FIGURES.items()
    }


def test_every_threshold_is_documented_with_its_values() -> None:
    def shown(value: float | None) -> str:
        return "never" if value is None else f"{value:g}"

    limits = {**rdma_limits.LIMITS, **nccl_limits.LIMITS}
    documented = {name: cells[1:] for name, cells in rows("name").items()}
    assert documented == {name: [shown(limit.warn), shown(limit.critical)] for name, limit in limits.items()}
    units = {name: cells[0] for name, cells in rows("name").items()}
    told = {"imbalance": "times the mean", "idle": "rails", "hang": "s, mode nccl", "late": "s, mode nccl"}
    assert units == {name: told.get(name, limit.unit) for name, limit in limits.items()}
    assert {limits[name].unit for name in ("hang", "late")} == {"s"}
    assert {limits[name].unit for name in ("imbalance", "idle")} == {""}


def test_every_metric_is_documented() -> None:
    figures = {f"xtrace_rdma_{name}_total" for name in FIGURES}
    assert [name for name in DESCRIBED if name not in figures and f"`{name}`" not in GUIDE] == []


def test_alerts_and_the_queries_of_the_guide_use_metrics_there_are() -> None:
    used = set(re.findall(r"xtrace_rdma_\w+", ALERTS.read_text())) | set(re.findall(r"xtrace_rdma_\w+(?=\[)", GUIDE))
    assert used and used <= set(DESCRIBED)
