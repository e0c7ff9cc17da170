"""The bodies of a scrape: the text format and OpenMetrics, both without timestamps.

https://prometheus.io/docs/instrumenting/exposition_formats/
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from xtrace.sinks.metrics.exposition import label_text
from xtrace.sinks.metrics.latest import View
from xtrace.sinks.metrics.sample import Labels, Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TOTAL = "_total"

AT_ONCE = 200
"""Series rendered before other threads get a turn: the tick must not wait for a scrape."""


def open_metrics_is_preferred(accept: str) -> bool:
    """Return whether an Accept header ranks OpenMetrics 1.0 at least as high as text (RFC 9110 12.5.1)."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        kind, *parameters = (field.strip().lower() for field in part.split(";"))
        named = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if kind in best and (kind == "text/plain" or named.get("version", "1.0.0") in ("1.0.0", "0.0.1")):
            best[kind] = max(best[kind], _quality(named.get("q", "1")))
    ranked = best["application/openmetrics-text"]
    return 0 < ranked >= best["text/plain"]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class Renderer:
    """Renders views in either format. Labels that stay are rendered once."""

    def __init__(self, constant: Labels) -> None:
        self._constant = constant
        self._rendered: dict[int, tuple[Labels, str]] = {}
        """labels and their text by id(labels), which is unique while they are kept here"""

    def body(self, view: View, as_open_metrics: bool) -> bytes:
        """Return all series of a view, grouped by metric."""
        lines: dict[str, list[str]] = {name: [] for name in view.described}
        rendered: dict[int, tuple[Labels, str]] = {}
        for number, (labels, held) in enumerate(view.series.items()):
            if number % AT_ONCE == 0:
                time.sleep(0)
            _, text = rendered[id(labels)] = self._rendered.get(id(labels)) or (labels, self._text(labels))
            for name, value in held.values.items():
                lines[name].append(f"{name}{text} {value}\n")
                if as_open_metrics and name in held.created:
                    family = name.removesuffix(TOTAL)
                    lines[name].append(f"{family}_created{text} {held.created[name] / 1000:.3f}\n")
        self._rendered = rendered
        parts = (part for name, own in lines.items() if own for part in (*_head(name, view, as_open_metrics), *own))
        return ("".join(parts) + ("# EOF\n" if as_open_metrics else "")).encode()

    def _text(self, labels: Labels) -> str:
        own = {name for name, _ in labels}
        constant = (label for label in self._constant if label[0] not in own)
        text = label_text((*labels, *constant))
        return f"{{{text}}}" if text else ""


def _head(name: str, view: View, as_open_metrics: bool) -> Iterator[str]:
    """Yield the description of a metric. In OpenMetrics a counter's family has no `_total`, its unit is a suffix."""
    metric: Metric = view.described[name]
    family = name.removesuffix(TOTAL) if as_open_metrics and metric.kind == "counter" else name
    yield f"# HELP {family} {metric.help}\n# TYPE {family} {metric.kind}\n"
    if as_open_metrics and metric.unit and family.endswith(f"_{metric.unit}"):
        yield f"# UNIT {family} {metric.unit}\n"
