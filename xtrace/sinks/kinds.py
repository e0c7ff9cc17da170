"""The registry of modes: what shows a mode's snapshots as text, JSON and metrics, and what adds them up.

A new mode has a row in KINDS, and files of its own in the folders that the row names. Those are imported when the
first snapshot of the mode arrives: they cost start time and memory, which runs without that mode do not pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from xtrace.model.snapshot import Snapshot
from xtrace.sinks.metrics.sample import Metric, Sample, Values

Record = dict[str, Any]
"""A JSON record."""

Made = TypeVar("Made")


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
    series_by: str = "flow"
    """what shares a series: flow, service or hosts"""


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


def _flow_text(options: TextOptions) -> TextKind:
    from xtrace.sinks.text.flows import FlowText

    return FlowText(options)


def _flow_json(options: JsonOptions) -> JsonKind:
    from xtrace.sinks.jsonl.interfaces import FlowJson

    return FlowJson(options)


def _flow_metrics(options: MetricsOptions) -> MetricsKind:
    from xtrace.sinks.metrics.flows import FlowMetrics

    return FlowMetrics(options)


def _flow_totals() -> ModeTotals:
    from xtrace.model.flow_totals import FlowTotals

    return FlowTotals()


def _rdma_text(_: TextOptions) -> TextKind:
    from xtrace.sinks.text.rdma import RdmaText

    return RdmaText()


def _rdma_json(options: JsonOptions) -> JsonKind:
    from xtrace.sinks.jsonl.rdma import RdmaJson

    return RdmaJson(options)


def _rdma_metrics(_: MetricsOptions) -> MetricsKind:
    from xtrace.sinks.metrics.rdma import RdmaMetrics

    return RdmaMetrics()


def _nccl_text(_: TextOptions) -> TextKind:
    from xtrace.sinks.text.nccl import NcclText

    return NcclText()


def _nccl_json(options: JsonOptions) -> JsonKind:
    from xtrace.sinks.jsonl.nccl import NcclJson

    return NcclJson(options)


def _nccl_metrics(_: MetricsOptions) -> MetricsKind:
    from xtrace.sinks.metrics.nccl import NcclMetrics

    return NcclMetrics()


def _nccl_totals() -> ModeTotals:
    from xtrace.model.nccl import RunCalls

    return RunCalls()


KINDS = {
    "xdp": Kind(_flow_text, _flow_json, _flow_metrics, _flow_totals),
    "rdma": Kind(_rdma_text, _rdma_json, _rdma_metrics),
    "nccl": Kind(_nccl_text, _nccl_json, _nccl_metrics, _nccl_totals),
}
"""By Snapshot.mode."""


class ByMode(dict[str, Made]):
    """What `make` makes of a mode's Kind, once, when it is first asked for."""

    def __init__(self, make: Callable[[Kind], Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, mode: str) -> Made:
        made = self[mode] = self._make(KINDS[mode])
        return made


class Totals:
    """What a whole run adds up to."""

    def __init__(self, intervals: int = 0) -> None:
        self.intervals = intervals
        self.by_mode: dict[str, Any] = {}
        """a ModeTotals for each mode that has any"""

    def add(self, snapshot: Snapshot) -> None:
        """Add one interval of one mode."""
        make = KINDS[snapshot.mode].totals
        if make is None:
            return
        if snapshot.mode not in self.by_mode:
            self.by_mode[snapshot.mode] = make()
        self.by_mode[snapshot.mode].add(snapshot)
