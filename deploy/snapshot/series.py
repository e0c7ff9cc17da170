"""Metrics with their kinds and units, and the labels that each family of series may have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from deploy.snapshot.compared import ROOT
from xtrace.sinks.metrics import flows, nccl, own, rdma, tcp, tcp_paths

DESCRIBED = {
    **flows.DESCRIBED,
    **rdma.DESCRIBED,
    **nccl.NcclMetrics.described,
    **tcp.DESCRIBED,
    **tcp_paths.DESCRIBED,
    **own.DESCRIBED,
}
"""All metrics."""
SOURCES = ROOT / "xtrace/sinks/metrics"
NO_LABELS = {"hw", "std", "other"}
"""First of a pair that is not one of name and value: sets of counters, and the interface that stands for others."""


def promises() -> Iterator[str]:
    """Yield all."""
    for name, metric in DESCRIBED.items():
        yield f"metric {name}: {metric.kind}"
        yield f"metric {name}: in {metric.unit or 'no unit'}"
    for path in sorted(SOURCES.glob("*.py")):
        yield from (f"label of {path.stem} {name}" for name in sorted(labels_in(path)))


def labels_in(path: Path) -> set[str]:
    """Return the names in a module's pairs of a name and a value that is computed: labels are made of them."""
    tuples = (node.elts for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Tuple))
    pairs = (elements for elements in tuples if len(elements) == 2 and not isinstance(elements[1], ast.Constant))
    words = {name.value for name, _ in pairs if isinstance(name, ast.Constant) and isinstance(name.value, str)}
    return {word for word in words if word.isidentifier() and not word.startswith("xtrace_")} - NO_LABELS
