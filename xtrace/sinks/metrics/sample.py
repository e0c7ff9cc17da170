"""What a metrics back end receives: samples, and what their metrics are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from xtrace.model.snapshot import Snapshot

NS_PER_MS = 1_000_000

Labels = tuple[tuple[str, str], ...]
"""Names and values, without the constant ones (host, --label), which the encoding adds. An empty value is no label."""

Values = Mapping[str, int | float]
"""By the metric's name."""


class Metric(NamedTuple):
    """What every sample of a metric has in common; docs/metrics.md shows the same."""

    kind: Literal["counter", "gauge"]
    """counters are cumulative, since the start of this run or before"""
    unit: str
    """of its values, in the plural; empty where they have none"""
    help: str
    """one line: what is counted, and when it grows"""


class Sample(NamedTuple):
    """Values of metrics that have their labels in common, at the end of an interval.

    One sample for all of them, because that is how they are produced, and how encodings want them: labels are
    rendered, sorted or compared once.
    """

    labels: Labels
    values: Values
    before: Values | None = None
    """counters as they stood when the interval began, where that is not known from the interval before"""


class Interval(NamedTuple):
    """When samples were taken: milliseconds of the wall clock since the epoch."""

    start_ms: int
    end_ms: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> Interval:
        """That of a snapshot."""
        return cls((snapshot.end_ns - snapshot.interval_ns) // NS_PER_MS, snapshot.end_ns // NS_PER_MS)
