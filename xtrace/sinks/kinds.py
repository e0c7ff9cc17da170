"""What a mode provides to be shown by sinks: its text, JSON and metrics, and its totals over a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from xtrace.sinks.metrics.sample import Metric, Sample, Values

Record = dict[str, Any]
"""A JSON record."""


class Screen(Protocol):
    """Where columns must fit. None: there is no limit."""

    has_color: bool

    def columns(self) -> int | None:
        """Return the width now."""

    def rows(self) -> int | None:
        """Return the height now."""


class TextOptions(NamedTuple):
    """Options of text output."""

    top: int | None = 0
    """flows shown per interface; 0: all; None: what fits on the screen"""
    with_direction: bool = False
    """whether lines end in `in` or `out`"""
    screen: Screen | None = None
    """columns that fit it, instead of lines of words"""
    by_owner: bool = False
    """whether flows are added up by their owners"""


class JsonOptions(NamedTuple):
    """Options of JSON records."""

    identity: Record
    """fields that are the same in all records of the run"""
    top: int = 0
    """flows shown per interface; 0: all"""
    by_owner: bool = False
    """whether flows are added up by their owners"""


class MetricsOptions(NamedTuple):
    """Options of metrics."""

    max_series: int
    """flows with their own series, per interface and direction"""
    series_by: str = "flow"
    """what shares a series: flow, service, hosts or owner"""
    flow_gauges: bool = True
    """whether flows have gauges of the last interval beside their counters"""


class TextKind(Protocol):
    """Renders one mode's snapshots as text."""

    def lines(self, snapshot: Any) -> Iterator[str | bytes]:
        """Yield all lines of one interval.

        A str is one line with its newline; bytes are whole lines that are harmless already, never for a screen.
        """

    def totals(self, totals: Any) -> Iterable[str]:
        """Return the lines below a whole run, for a screen, from the mode's ModeTotals."""


class JsonKind(Protocol):
    """Renders one mode's snapshots as JSON Lines."""

    def setup(self, setup: Any) -> Record:
        """Return the fields for the `start` record."""

    def lines(self, snapshot: Any) -> Iterator[bytes]:
        """Yield all records of one interval, any number of whole lines at a time."""

    def totals(self, totals: Any) -> Record:
        """Return the fields for the `end` record from the mode's ModeTotals."""


class MetricsKind(Protocol):
    """Turns one mode's snapshots into samples of metrics."""

    @property
    def described(self) -> Mapping[str, Metric]:
        """All metrics of the mode, in output order."""

    def samples(self, snapshot: Any) -> Iterable[Sample]:
        """Yield the samples of one interval, every series at most once."""

    def own(self, setup: Any) -> Values:
        """Return this mode's values of the tool's own metrics (metrics/own.py); `setup`: how it runs, if known."""


class ModeTotals(Protocol):
    """Sums of one mode over a run."""

    def add(self, snapshot: Any) -> None:
        """Add one interval."""


class Kind(NamedTuple):
    """How sinks show one mode."""

    text: Callable[[TextOptions], TextKind]
    json: Callable[[JsonOptions], JsonKind]
    metrics: Callable[[MetricsOptions], MetricsKind] | None = None
    """None: no metrics"""
    totals: Callable[[], ModeTotals] | None = None
    """None: nothing to add up over intervals"""
