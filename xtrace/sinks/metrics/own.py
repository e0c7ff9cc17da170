"""What the tool says of itself: version, cost, and how the push goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from xtrace.model.flow import FlowSnapshot
from xtrace.model.flow_totals import FlowSetup
from xtrace.sinks import Run
from xtrace.sinks.metrics.sample import Sample
from xtrace.sinks.push.delivery import Figures

DESCRIBED = {
    "xtrace_catch_build_info": "Always 1; the label says the version.",
    "xtrace_catch_start_time_seconds": "When the run began, in seconds since the epoch.",
    "xtrace_catch_cpu_seconds_total": "CPU time of the process, user and system.",
    "xtrace_catch_resident_memory_bytes": "Resident memory of the process.",
    "xtrace_catch_map_memory_bytes": "Kernel memory of all eBPF maps.",
    "xtrace_catch_flow_table_flows": "Flows in the table at the end of the interval.",
    "xtrace_catch_flow_table_capacity": "Flows that the table takes (--max-flows).",
    "xtrace_catch_grace_period_seconds": "How long the last grace period took.",
    "xtrace_catch_drain_seconds": "How long the last drain took, after the grace period.",
    "xtrace_catch_push_flow_series": "Flows that have series of their own, those idle for up to 5 minutes included.",
    "xtrace_catch_push_flow_series_remembered": "Flows without series whose counters are kept for up to 5 minutes.",
    "xtrace_catch_push_queue_batches": "Batches that wait for delivery.",
    "xtrace_catch_push_queue_bytes": "Bytes that wait for delivery.",
    "xtrace_catch_push_requests_total": "Requests that delivered a batch.",
    "xtrace_catch_push_samples_total": "Samples delivered.",
    "xtrace_catch_push_failures_total": "Requests that failed and are made again.",
    "xtrace_catch_push_dropped_batches_total": "Batches lost, by reason: overflow of the queue, refused by the server.",
    "xtrace_catch_push_dropped_samples_total": "Samples of the batches lost, by reason.",
    "xtrace_catch_push_render_seconds": "How long the tick before this one was held up by rendering and queueing.",
    "xtrace_catch_push_request_seconds": "How long the last request took.",
    "xtrace_catch_push_stored": "Whether the server had the sample last asked for; absent where that is not known.",
}
"""Of every metric of this file one line; docs/metrics.md says the same."""


class SelfMetrics:
    """Knows the run; is told the rest."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._started = time.time()
        self._render_ns: int | None = None
        self._table: tuple[int, int, int] | None = None
        """of the last snapshot: flows, ns of its grace period and of its drain"""

    def start(self, run: Run) -> None:
        """Remember how the tool runs."""
        self._run = run

    def note(self, snapshot: FlowSnapshot) -> None:
        """Remember what the last drain was like."""
        self._table = len(snapshot.flows), snapshot.grace_ns, snapshot.drain_ns

    def note_render(self, spent_ns: int) -> None:
        """Remember what a tick's push took of the main thread."""
        self._render_ns = spent_ns

    def samples(self, push: Figures, state: tuple[int, int]) -> Iterator[Sample]:
        """All of this tick; `state` is how many flows have series, and how many are remembered."""
        yield Sample("xtrace_catch_build_info", "gauge", (("version", self._run.version if self._run else ""),), 1)
        yield gauge("start_time_seconds", round(self._started, 3))
        yield counter("cpu_seconds_total", round(time.process_time(), 6))
        yield gauge("resident_memory_bytes", resident_bytes())
        yield from self._map_samples()
        yield from self._table_samples()
        yield gauge("push_flow_series", state[0])
        yield gauge("push_flow_series_remembered", state[1])
        if self._render_ns is not None:
            yield gauge("push_render_seconds", self._render_ns / 1e9)
        yield from _push_samples(push)

    def _map_samples(self) -> Iterator[Sample]:
        setups = self._run.setups.values() if self._run else ()
        if any(setup.map_memory for setup in setups):
            yield gauge("map_memory_bytes", sum(setup.map_memory for setup in setups))

    def _table_samples(self) -> Iterator[Sample]:
        setup = self._run.setups.get("xdp") if self._run else None
        if not isinstance(setup, FlowSetup) or self._table is None:
            return
        flows, grace_ns, drain_ns = self._table
        yield gauge("flow_table_flows", flows)
        yield gauge("flow_table_capacity", setup.max_flows)
        yield gauge("grace_period_seconds", grace_ns / 1e9)
        yield gauge("drain_seconds", drain_ns / 1e9)


def _push_samples(push: Figures) -> Iterator[Sample]:
    yield gauge("push_queue_batches", push.waiting_batches)
    yield gauge("push_queue_bytes", push.waiting_bytes)
    yield counter("push_requests_total", push.requests)
    yield counter("push_samples_total", push.samples)
    yield counter("push_failures_total", push.failures)
    for reason, (batches, samples) in push.dropped.items():
        labels = (("reason", reason),)
        yield Sample("xtrace_catch_push_dropped_batches_total", "counter", labels, batches)
        yield Sample("xtrace_catch_push_dropped_samples_total", "counter", labels, samples)
    if push.request_s is not None:
        yield gauge("push_request_seconds", round(push.request_s, 6))
    if push.stored is not None:
        yield gauge("push_stored", int(push.stored))


def gauge(name: str, value: float) -> Sample:
    """One of the tool's own."""
    return Sample(f"xtrace_catch_{name}", "gauge", (), value)


def counter(name: str, value: float) -> Sample:
    """One of the tool's own."""
    return Sample(f"xtrace_catch_{name}", "counter", (), value)


def resident_bytes() -> int:
    """RSS of this process (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
