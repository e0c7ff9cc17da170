"""Metrics of mode nccl. The number of series is bounded in monitors/nccl/sums.py and here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from xtrace.model.nccl import NcclSnapshot
from xtrace.model.nccl_ras import RasCommunicator, RasReport
from xtrace.model.snapshot import Setup
from xtrace.sinks.metrics import nccl_ranks
from xtrace.sinks.metrics.nccl_ranks import RankMetrics
from xtrace.sinks.metrics.sample import Labels, Metric, Sample, Values
from xtrace.sinks.render import valid_unicode

MOST_PROCESSES = 500
"""Processes with a series of their communicators: as many as have series of their calls."""

MOST_COMMUNICATORS = 100
"""Communicators of a RAS service with series: first by missing ranks, then by skew."""

DESCRIBED = {
    "xtrace_nccl_processes": Metric(
        "gauge", "processes", "Processes that have NCCL loaded, whether they call it or not."
    ),
    "xtrace_nccl_communicators": Metric(
        "gauge",
        "communicators",
        "Communicators of a process that are known; absent for one that has made no NCCL call.",
    ),
    "xtrace_nccl_calls_total": Metric("counter", "calls", "NCCL calls that began, by process, function and datatype."),
    "xtrace_nccl_requested_bytes_total": Metric(
        "counter", "bytes", "Bytes of data that NCCL calls were given to move; what NICs carried for them differs."
    ),
    "xtrace_nccl_unsized_calls_total": Metric(
        "counter", "calls", "NCCL calls of unknown size, which add nothing to the requested bytes."
    ),
    "xtrace_nccl_returned_calls_total": Metric("counter", "calls", "NCCL calls that returned."),
    "xtrace_nccl_call_seconds_total": Metric(
        "counter",
        "seconds",
        "Time from beginning to return of the NCCL calls that returned; collectives may run on after it.",
    ),
    "xtrace_nccl_errors_total": Metric("counter", "calls", "NCCL calls that returned an error, by process and error."),
    "xtrace_nccl_async_errors_total": Metric(
        "counter", "times", "Times that ncclCommGetAsyncError reported that a communicator has failed."
    ),
    "xtrace_nccl_unattributed_calls_total": Metric(
        "counter", "calls", "NCCL calls that no other metric counts because the call table had no room."
    ),
    "xtrace_nccl_waiting_processes": Metric(
        "gauge", "processes", "Processes that were not searched for NCCL yet since they changed."
    ),
    "xtrace_nccl_cut_processes": Metric(
        "gauge", "processes", "Processes with more mappings, files or symbols than are searched for NCCL."
    ),
    "xtrace_nccl_unprobed_files": Metric(
        "gauge", "files", "Files with NCCL's functions that are not probed because as many as possible are."
    ),
    "xtrace_nccl_ras_up": Metric("gauge", "", "1 if NCCL's RAS service answered the last query, else 0."),
    "xtrace_nccl_ras_ranks": Metric("gauge", "ranks", "Ranks of a communicator that answered the RAS service."),
    "xtrace_nccl_ras_missing_ranks": Metric(
        "gauge", "ranks", "Ranks of a communicator that did not answer the RAS service."
    ),
    "xtrace_nccl_ras_async_error_ranks": Metric(
        "gauge", "ranks", "Ranks of a communicator on which it has failed, according to the RAS service."
    ),
    "xtrace_nccl_ras_skew_calls": Metric(
        "gauge", "calls", "Calls of one collective by which a communicator's ranks differ, at most."
    ),
    "xtrace_nccl_ras_age_seconds": Metric(
        "gauge",
        "seconds",
        "Time since the RAS service last reported the communicator; jobs that share its port answer in turn.",
    ),
}
"""In output order."""


class NcclMetrics:
    """Processes, calls, errors, communicators."""

    described: Mapping[str, Metric] = {**DESCRIBED, **nccl_ranks.DESCRIBED}

    def __init__(self) -> None:
        self._ranks = RankMetrics()

    def samples(self, snapshot: NcclSnapshot) -> Iterator[Sample]:
        """Yield all samples of one interval."""
        yield from nccl_samples(snapshot)
        yield from self._ranks.samples(snapshot.ranks, snapshot.verdicts)

    def own(self, setup: Setup | None) -> Values:
        """Return nothing: mode nccl has no figures of the tool itself."""
        return {}


def nccl_samples(snapshot: NcclSnapshot) -> Iterator[Sample]:
    """Yield all samples of one interval."""
    values = {
        "xtrace_nccl_processes": len(snapshot.processes),
        "xtrace_nccl_unattributed_calls_total": snapshot.sums.totals.unattributed,
        **{f"xtrace_nccl_{name}": count for name, count in snapshot.skipped._asdict().items()},
    }
    if snapshot.ras_answers is not None:
        values["xtrace_nccl_ras_up"] = int(snapshot.ras_answers)
    yield Sample((), values)
    # unknown for a process that is not probed; a worker that only maps the library has none
    users = (process for process in snapshot.processes if process.communicators or process.operations)
    for process in islice(users, MOST_PROCESSES):
        yield Sample((("pid", str(process.pid)),), {"xtrace_nccl_communicators": len(process.communicators)})
    yield from call_samples(snapshot)
    for where, count in snapshot.sums.errors.items():
        name = "xtrace_nccl_async_errors_total" if where.is_async else "xtrace_nccl_errors_total"
        labels = (("pid", where.pid), ("command", valid_unicode(where.command)), ("error", where.error))
        yield Sample(labels, {name: count})
    if snapshot.ras is not None:
        yield from ras_samples(snapshot.ras)


def call_samples(snapshot: NcclSnapshot) -> Iterator[Sample]:
    """Yield calls by process, function and datatype."""
    for series, calls in snapshot.sums.calls.items():
        labels: Labels = (
            ("pid", series.pid),
            ("command", valid_unicode(series.command)),
            ("function", series.function),
            ("datatype", series.datatype),
        )
        values: dict[str, int | float] = {
            "xtrace_nccl_calls_total": calls.calls,
            "xtrace_nccl_requested_bytes_total": calls.requested_bytes,
            "xtrace_nccl_unsized_calls_total": calls.unsized_calls,
        }
        if snapshot.has_returns:
            values["xtrace_nccl_returned_calls_total"] = calls.returned
            values["xtrace_nccl_call_seconds_total"] = calls.latency_ns / 1e9
        yield Sample(labels, values)


def ras_samples(report: RasReport) -> Iterator[Sample]:
    """Yield ranks and skew of communicators that a RAS service reported, worst first."""
    worst_first = sorted(report.communicators, key=_badness, reverse=True)
    for communicator in worst_first[:MOST_COMMUNICATORS]:
        values = {
            "xtrace_nccl_ras_ranks": communicator.ranks,
            "xtrace_nccl_ras_missing_ranks": len(communicator.missing),
            "xtrace_nccl_ras_async_error_ranks": len(communicator.async_errors),
            "xtrace_nccl_ras_skew_calls": communicator.skew,
            "xtrace_nccl_ras_age_seconds": round(communicator.age_ns / 1e9, 3),
        }
        yield Sample((("communicator", communicator.name),), values)


def _badness(communicator: RasCommunicator) -> tuple[int, int, int]:
    return len(communicator.missing), len(communicator.async_errors), communicator.skew
