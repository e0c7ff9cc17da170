"""Samples and the descriptions of their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal, NamedTuple

from xtrace.model.snapshot import Snapshot

NS_PER_MS = 1_000_000

Labels = tuple[tuple[str, str], ...]
"""Names and values without the constant labels (host, --label), which the encoding adds. An empty value means none."""

Values = Mapping[str, int | float]
"""By metric name."""


class Metric(NamedTuple):
    """Description of a metric, as in docs/metrics.md."""

    kind: Literal["counter", "gauge"]
    """counters are cumulative since the start of the run, or longer"""
    unit: str
    """of its values, in the plural; empty if dimensionless"""
    help: str
    """one line: what is counted and when it grows"""


class Life(Enum):
    """What it means if a series has no sample in an interval."""

    EACH = "each"
    """it has one in each interval; without one it has ended"""
    STAYS = "stays"
    """it is idle: its counters are what they were"""
    ENDS = "ends"
    """it stayed so far, and ended with the interval before this one"""


class Sample(NamedTuple):
    """Values of all metrics that share one set of labels, at the end of an interval.

    They are produced together, and encodings render, sort or compare the labels once.
    """

    labels: Labels
    values: Values
    before: Values | None = None
    """counters at the start of the interval, if the previous interval has no sample of them"""
    life: Life = Life.EACH


class Interval(NamedTuple):
    """Start and end of an interval: wall clock, milliseconds since the epoch."""

    start_ms: int
    end_ms: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> Interval:
        """Return the interval of a snapshot."""
        return cls((snapshot.end_ns - snapshot.interval_ns) // NS_PER_MS, snapshot.end_ns // NS_PER_MS)
