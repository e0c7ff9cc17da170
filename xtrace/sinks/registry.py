"""The registry of modes, with the Kind of each.

A new mode has a row in KINDS, and its own files in the folders that the row names. These are imported when the first
snapshot of the mode arrives, so that runs without the mode do not pay for them in start time and memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xtrace.model.snapshot import Snapshot
from xtrace.sinks.kinds import (
    JsonKind,
    JsonOptions,
    Kind,
    MetricsKind,
    MetricsOptions,
    ModeTotals,
    TextKind,
    TextOptions,
)

Made = TypeVar("Made")


def _flow_text(options: TextOptions) -> TextKind:
    if options.screen:
        from xtrace.sinks.text.columns import FlowColumns

        return FlowColumns(options, options.screen)
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


def _nccl_text(options: TextOptions) -> TextKind:
    if options.screen:
        from xtrace.sinks.text.nccl_jobs import NcclJobs

        return NcclJobs(options)
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


def _tcp_text(options: TextOptions) -> TextKind:
    from xtrace.sinks.text.tcp import TcpText

    return TcpText(options)


def _tcp_json(options: JsonOptions) -> JsonKind:
    from xtrace.sinks.jsonl.tcp import TcpJson

    return TcpJson(options)


def _tcp_metrics(_: MetricsOptions) -> MetricsKind:
    from xtrace.sinks.metrics.tcp import TcpMetrics

    return TcpMetrics()


def _path_text(options: TextOptions) -> TextKind:
    from xtrace.sinks.text.tcp_paths import PathText

    return PathText(options)


def _path_json(options: JsonOptions) -> JsonKind:
    from xtrace.sinks.jsonl.tcp_paths import PathJson

    return PathJson(options)


def _path_metrics(_: MetricsOptions) -> MetricsKind:
    from xtrace.sinks.metrics.tcp_paths import PathMetrics

    return PathMetrics()


KINDS = {
    "xdp": Kind(_flow_text, _flow_json, _flow_metrics, _flow_totals),
    "tcp": Kind(_tcp_text, _tcp_json, _tcp_metrics),
    "tcp_packets": Kind(_path_text, _path_json, _path_metrics),
    "rdma": Kind(_rdma_text, _rdma_json, _rdma_metrics),
    "nccl": Kind(_nccl_text, _nccl_json, _nccl_metrics, _nccl_totals),
}
"""Kinds by Snapshot.mode."""


class ByMode(dict[str, Made]):
    """Maps a mode to `make(kind)`, which is called on first use."""

    def __init__(self, make: Callable[[Kind], Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, mode: str) -> Made:
        made = self[mode] = self._make(KINDS[mode])
        return made


class Totals:
    """Sums over a whole run."""

    def __init__(self, intervals: int = 0) -> None:
        self.intervals = intervals
        self.by_mode: dict[str, Any] = {}
        """ModeTotals by mode, for modes that have any"""

    def add(self, snapshot: Snapshot) -> None:
        """Add one interval of one mode."""
        make = KINDS[snapshot.mode].totals
        if make is None:
            return
        if snapshot.mode not in self.by_mode:
            self.by_mode[snapshot.mode] = make()
        self.by_mode[snapshot.mode].add(snapshot)
