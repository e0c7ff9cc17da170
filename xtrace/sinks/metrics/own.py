"""The tool's own metrics: version, cost, state of the push."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtrace.sinks import Run
from xtrace.sinks.metrics.sample import Interval, Metric, Sample, Values
from xtrace.sinks.renewed import Renewed

DESCRIBED = {
    "xtrace_catch_build_info": Metric("gauge", "", "Always 1; the label version has the version that runs."),
    "xtrace_catch_start_time_seconds": Metric(
        "gauge", "seconds", "When the run began, in seconds since the Unix epoch."
    ),
    "xtrace_catch_interval_end_timestamp_seconds": Metric(
        "gauge", "seconds", "When the last interval ended, which all values include, in seconds since the Unix epoch."
    ),
    "xtrace_catch_cpu_seconds_total": Metric(
        "counter", "seconds", "CPU time that the process has used, user and system."
    ),
    "xtrace_catch_resident_memory_bytes": Metric("gauge", "bytes", "Resident memory of the process."),
    "xtrace_catch_map_memory_bytes": Metric("gauge", "bytes", "Kernel memory that all eBPF maps take."),
    "xtrace_catch_files_outdated": Metric(
        "gauge",
        "",
        "1 while new files of certificates, keys or users are of no use, and what was read before stays in use, else 0;"
        " absent without such files.",
    ),
    "xtrace_catch_interfaces_attached": Metric("gauge", "interfaces", "Interfaces that are monitored."),
    "xtrace_catch_interfaces_unattached": Metric(
        "gauge",
        "interfaces",
        "Selected interfaces that are not monitored: missing, detached by someone else, or without a slot; those that"
        " refuse every program only if they were named.",
    ),
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
    "xtrace_catch_push_spool_bytes": Metric(
        "gauge", "bytes", "Size of the files of batches that wait for delivery (--spool)."
    ),
    "xtrace_catch_push_requests_total": Metric("counter", "requests", "Requests that delivered a batch."),
    "xtrace_catch_push_samples_total": Metric("counter", "samples", "Samples in the batches that were delivered."),
    "xtrace_catch_push_failures_total": Metric(
        "counter", "requests", "Requests that failed in a way that may pass; their batches are sent again."
    ),
    "xtrace_catch_push_dropped_batches_total": Metric(
        "counter",
        "batches",
        "Batches lost, by reason: overflow of the queue, refused by the server, file damaged or gone.",
    ),
    "xtrace_catch_push_dropped_samples_total": Metric("counter", "samples", "Samples in the batches lost, by reason."),
    "xtrace_catch_push_request_seconds": Metric(
        "gauge", "seconds", "Time that the last request that delivered a batch took."
    ),
    "xtrace_catch_listen_requests_total": Metric(
        "counter", "requests", "HTTP requests that --listen answered, those with an error included."
    ),
    "xtrace_catch_listen_refused_total": Metric(
        "counter",
        "connections",
        "Connections to --listen closed before they were answered: too many at once, too slow, or malformed.",
    ),
    "xtrace_catch_push_stored": Metric(
        "gauge", "", "1 if the sample read back last was stored by the server, 0 if not; absent where that is unknown."
    ),
}
"""In output order."""


@dataclass(frozen=True)
class Figures:
    """State of the push."""

    waiting_batches: int = 0
    waiting_bytes: int = 0
    requests: int = 0
    """delivered"""
    samples: int = 0
    """delivered"""
    failures: int = 0
    """failed attempts that are retried"""
    spooled_bytes: int | None = None
    """in files; None without a spool"""
    dropped: dict[str, tuple[int, int]] = field(default_factory=dict)
    """batches and samples by reason"""
    request_s: float | None = None
    """duration of the last request"""
    doubt: str = ""
    """the last answer to a delivery, if it was not the usual one"""
    stored: bool | None = None
    """whether the server had the last sample queried"""


class SelfMetrics:
    """Collects the tool's own figures, without those of outlets."""

    def __init__(self, renewed: Sequence[Renewed[Any]] = ()) -> None:
        """`renewed`: what is made of files that may be replaced."""
        self._renewed = renewed
        self._run: Run | None = None
        self._started = time.time()
        self._render_ns: int | None = None

    def start(self, run: Run) -> None:
        """Note the run's setup."""
        self._run = run

    def note_render(self, spent_ns: int) -> None:
        """Note the main thread's time for a tick's samples."""
        self._render_ns = spent_ns

    def samples(self, interval: Interval, modes: Iterable[Values] = ()) -> Iterator[Sample]:
        """Yield this tick's samples; `modes`: values added by each mode's MetricsKind."""
        yield Sample((("version", self._run.version if self._run else ""),), {"xtrace_catch_build_info": 1})
        values = {"xtrace_catch_interval_end_timestamp_seconds": interval.end_ms / 1000, **self._process()}
        for own in modes:
            values.update(own)
        yield Sample((), values)

    def _process(self) -> Values:
        values: dict[str, int | float] = {
            "xtrace_catch_start_time_seconds": round(self._started, 3),
            "xtrace_catch_cpu_seconds_total": round(time.process_time(), 6),
            "xtrace_catch_resident_memory_bytes": resident_bytes(),
            "xtrace_catch_push_flow_series": 0,
            "xtrace_catch_push_flow_series_remembered": 0,
        }
        memory = sum(setup.map_memory for setup in self._run.setups.values()) if self._run else 0
        if memory:
            values["xtrace_catch_map_memory_bytes"] = memory
        if self._renewed:
            values["xtrace_catch_files_outdated"] = int(any(each.is_outdated for each in self._renewed))
        if self._render_ns is not None:
            values["xtrace_catch_push_render_seconds"] = self._render_ns / 1e9
        return values


def push_samples(push: Figures) -> Iterator[Sample]:
    """Yield the state of the push."""
    yield Sample((), _push_values(push))
    for reason, (batches, samples) in push.dropped.items():
        dropped = {
            "xtrace_catch_push_dropped_batches_total": batches,
            "xtrace_catch_push_dropped_samples_total": samples,
        }
        yield Sample((("reason", reason),), dropped)


def _push_values(push: Figures) -> Values:
    values: dict[str, int | float] = {
        "xtrace_catch_push_queue_batches": push.waiting_batches,
        "xtrace_catch_push_queue_bytes": push.waiting_bytes,
        "xtrace_catch_push_requests_total": push.requests,
        "xtrace_catch_push_samples_total": push.samples,
        "xtrace_catch_push_failures_total": push.failures,
    }
    if push.spooled_bytes is not None:
        values["xtrace_catch_push_spool_bytes"] = push.spooled_bytes
    if push.request_s is not None:
        values["xtrace_catch_push_request_seconds"] = round(push.request_s, 6)
    if push.stored is not None:
        values["xtrace_catch_push_stored"] = int(push.stored)
    return values


def resident_bytes() -> int:
    """Return the RSS of this process (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
