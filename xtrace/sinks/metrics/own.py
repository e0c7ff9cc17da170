"""What the tool reports about itself: version, cost, and how the push goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from xtrace.model.flow import FlowSnapshot
from xtrace.sinks import Run
from xtrace.sinks.metrics.sample import Metric, Sample, Values
from xtrace.sinks.push.delivery import Figures

DESCRIBED = {
    "xtrace_catch_build_info": Metric("gauge", "", "Always 1; the label version has the version that runs."),
    "xtrace_catch_start_time_seconds": Metric(
        "gauge", "seconds", "When the run began, in seconds since the Unix epoch."
    ),
    "xtrace_catch_cpu_seconds_total": Metric(
        "counter", "seconds", "CPU time that the process has used, user and system."
    ),
    "xtrace_catch_resident_memory_bytes": Metric("gauge", "bytes", "Resident memory of the process."),
    "xtrace_catch_map_memory_bytes": Metric("gauge", "bytes", "Kernel memory that all eBPF maps take."),
    "xtrace_catch_flow_table_flows": Metric(
        "gauge", "flows", "Flows that were in the flow table when the interval ended."
    ),
    "xtrace_catch_flow_table_capacity": Metric(
        "gauge", "flows", "Flows that the flow table has room for (--max-flows)."
    ),
    "xtrace_catch_grace_period_seconds": Metric(
        "gauge",
        "seconds",
        "Time that the last grace period took: until no packet was still being counted in the old buffer.",
    ),
    "xtrace_catch_drain_seconds": Metric(
        "gauge", "seconds", "Time that the last drain took: reading and emptying the old buffer after the grace period."
    ),
    "xtrace_catch_push_flow_series": Metric(
        "gauge", "flows", "Flows that have series of their own, those idle for up to 5 minutes included."
    ),
    "xtrace_catch_push_flow_series_remembered": Metric(
        "gauge", "flows", "Flows that lost their series and whose counters are kept for up to 5 minutes."
    ),
    "xtrace_catch_push_render_seconds": Metric(
        "gauge", "seconds", "Time that rendering and queueing the batch before this one took between two intervals."
    ),
    "xtrace_catch_push_queue_batches": Metric("gauge", "batches", "Batches, one per interval, that wait for delivery."),
    "xtrace_catch_push_queue_bytes": Metric("gauge", "bytes", "Memory that the batches waiting for delivery take."),
    "xtrace_catch_push_requests_total": Metric("counter", "requests", "Requests that delivered a batch."),
    "xtrace_catch_push_samples_total": Metric("counter", "samples", "Samples in the batches that were delivered."),
    "xtrace_catch_push_failures_total": Metric(
        "counter", "requests", "Requests that failed in a way that may pass; their batches are sent again."
    ),
    "xtrace_catch_push_dropped_batches_total": Metric(
        "counter", "batches", "Batches lost, by reason: overflow of the queue, or refused by the server."
    ),
    "xtrace_catch_push_dropped_samples_total": Metric("counter", "samples", "Samples in the batches lost, by reason."),
    "xtrace_catch_push_request_seconds": Metric(
        "gauge", "seconds", "Time that the last request that delivered a batch took."
    ),
    "xtrace_catch_push_stored": Metric(
        "gauge", "", "1 if the sample read back last was stored by the server, 0 if not; absent where that is unknown."
    ),
}
"""The order is that of the output."""


class SelfMetrics:
    """Knows the run, and what was noted since."""

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
        yield Sample((("version", self._run.version if self._run else ""),), {"xtrace_catch_build_info": 1})
        yield Sample((), {**self._process(state), **_push_values(push)})
        for reason, (batches, samples) in push.dropped.items():
            dropped = {
                "xtrace_catch_push_dropped_batches_total": batches,
                "xtrace_catch_push_dropped_samples_total": samples,
            }
            yield Sample((("reason", reason),), dropped)

    def _process(self, state: tuple[int, int]) -> Values:
        values: dict[str, int | float] = {
            "xtrace_catch_start_time_seconds": round(self._started, 3),
            "xtrace_catch_cpu_seconds_total": round(time.process_time(), 6),
            "xtrace_catch_resident_memory_bytes": resident_bytes(),
            "xtrace_catch_push_flow_series": state[0],
            "xtrace_catch_push_flow_series_remembered": state[1],
        }
        setups = (self._run.flows, self._run.nccl) if self._run else ()
        memory = [setup.map_memory for setup in setups if setup is not None]
        if memory:
            values["xtrace_catch_map_memory_bytes"] = sum(memory)
        if self._render_ns is not None:
            values["xtrace_catch_push_render_seconds"] = self._render_ns / 1e9
        return {**values, **self._flow_table()}

    def _flow_table(self) -> Values:
        if self._run is None or self._run.flows is None or self._table is None:
            return {}
        flows, grace_ns, drain_ns = self._table
        return {
            "xtrace_catch_flow_table_flows": flows,
            "xtrace_catch_flow_table_capacity": self._run.flows.max_flows,
            "xtrace_catch_grace_period_seconds": grace_ns / 1e9,
            "xtrace_catch_drain_seconds": drain_ns / 1e9,
        }


def _push_values(push: Figures) -> Values:
    values: dict[str, int | float] = {
        "xtrace_catch_push_queue_batches": push.waiting_batches,
        "xtrace_catch_push_queue_bytes": push.waiting_bytes,
        "xtrace_catch_push_requests_total": push.requests,
        "xtrace_catch_push_samples_total": push.samples,
        "xtrace_catch_push_failures_total": push.failures,
    }
    if push.request_s is not None:
        values["xtrace_catch_push_request_seconds"] = round(push.request_s, 6)
    if push.stored is not None:
        values["xtrace_catch_push_stored"] = int(push.stored)
    return values


def resident_bytes() -> int:
    """RSS of this process (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
