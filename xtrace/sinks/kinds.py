"""What a mode brings so that sinks can show it: as text, as JSON, as metrics, and what adds it up over a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from xtrace.sinks.metrics.sample import Metric, Sample, Values

Record = dict[str, Any]
"""A JSON record."""


@dataclass(frozen=True)
class TextOptions:
    """How text is to be written."""

    top: int = 0
    """flows shown per interface; 0: all"""
    with_direction: bool = False
    """whether lines end in `in` or `out`"""


@dataclass(frozen=True)
class JsonOptions:
    """How JSON records are to be written."""

    identity: Record
    """fields that are the same in all records of the run"""
    top: int = 0
    """flows shown per interface; 0: all"""


@dataclass(frozen=True)
class MetricsOptions:
    """Which series are to be written."""

    max_series: int
    """flows with series of their own, per interface and direction"""


class TextKind(Protocol):
    """One mode's snapshots for people."""

    def lines(self, snapshot: Any) -> Iterator[str]:
        """All lines of one interval, each with its newline."""


class JsonKind(Protocol):
    """One mode's snapshots for programs."""

    def setup(self, setup: Any) -> Record:
        """Fields for the `start` record."""

    def lines(self, snapshot: Any) -> Iterator[bytes]:
        """All records of one interval, any number of whole lines at a time."""

    def totals(self, totals: Any) -> Record:
        """Fields for the `end` record, from what the mode's ModeTotals added up."""


class MetricsKind(Protocol):
    """One mode's snapshots as samples of metrics."""

    @property
    def described(self) -> Mapping[str, Metric]:
        """All metrics there may be, in the order of the output."""

    def samples(self, snapshot: Any) -> Iterable[Sample]:
        """Samples of one interval, every series at most once."""

    def own(self, setup: Any) -> Values:
        """Values of the tool's own metrics (metrics/own.py) that concern this mode; `setup`: how it runs, if known."""


class ModeTotals(Protocol):
    """What one mode adds up to over a run."""

    def add(self, snapshot: Any) -> None:
        """Add one interval."""


@dataclass(frozen=True)
class Kind:
    """One mode as sinks show it."""

    text: Callable[[TextOptions], TextKind]
    json: Callable[[JsonOptions], JsonKind]
    metrics: Callable[[MetricsOptions], MetricsKind] | None = None
    """None: it has no metrics"""
    totals: Callable[[], ModeTotals] | None = None
    """None: nothing of it adds up over intervals"""
