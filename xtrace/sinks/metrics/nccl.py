"""Mode nccl's metrics. How many series there are is bounded where they are summed (monitors/sums.py), and here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from xtrace.model.nccl import NcclSnapshot
from xtrace.model.nccl_ras import RasCommunicator, RasReport
from xtrace.sinks.metrics.sample import Labels, Sample
from xtrace.sinks.render import valid_unicode

MOST_PROCESSES = 500
"""That have a series of their communicators: as many as have series of their calls."""

MOST_COMMUNICATORS = 100
"""Of a RAS service; first those with missing ranks, then those with most skew."""

DESCRIBED = {
    "xtrace_nccl_processes": "Processes that use NCCL.",
    "xtrace_nccl_communicators": "Communicators of a process that are known; not of those that only have NCCL mapped.",
    "xtrace_nccl_calls_total": "NCCL calls that began.",
    "xtrace_nccl_requested_bytes_total": "Bytes that they asked for; not what a NIC carried.",
    "xtrace_nccl_unsized_calls_total": "Calls whose bytes are not known, and not among the requested bytes.",
    "xtrace_nccl_returned_calls_total": "NCCL calls that returned.",
    "xtrace_nccl_call_seconds_total": "Time in which they returned: of the call, not of the collective.",
    "xtrace_nccl_errors_total": "NCCL calls that returned an error.",
    "xtrace_nccl_async_errors_total": "Times that a communicator was told to have failed (ncclCommGetAsyncError).",
    "xtrace_nccl_unattributed_calls_total": "NCCL calls that a full table had no room for.",
    "xtrace_nccl_ras_up": "Whether the RAS service answered when it was last asked.",
    "xtrace_nccl_ras_ranks": "Ranks of a communicator that answered the RAS service.",
    "xtrace_nccl_ras_missing_ranks": "Ranks of a communicator that did not.",
    "xtrace_nccl_ras_async_error_ranks": "Ranks on which a communicator has failed.",
    "xtrace_nccl_ras_skew_calls": "By how many calls of one collective a communicator's ranks differ, at most.",
    "xtrace_nccl_ras_age_seconds": "Time since the RAS service reported the communicator: other jobs may answer there.",
}
"""Of every metric of this file one line; docs/metrics.md says the same."""


def nccl_samples(snapshot: NcclSnapshot) -> Iterator[Sample]:
    """All of one interval."""
    yield Sample("xtrace_nccl_processes", "gauge", (), len(snapshot.processes))
    # of one that is not probed they are not known, and of workers that only have the library there are none
    users = (process for process in snapshot.processes if process.communicators or process.operations)
    for process in islice(users, MOST_PROCESSES):
        yield Sample("xtrace_nccl_communicators", "gauge", (("pid", str(process.pid)),), len(process.communicators))
    yield from call_samples(snapshot)
    for where, count in snapshot.sums.errors.items():
        name = "xtrace_nccl_async_errors_total" if where.is_async else "xtrace_nccl_errors_total"
        labels = (("pid", where.pid), ("command", valid_unicode(where.command)), ("error", where.error))
        yield Sample(name, "counter", labels, count)
    yield Sample("xtrace_nccl_unattributed_calls_total", "counter", (), snapshot.sums.totals.unattributed)
    if snapshot.ras_answers is not None:
        yield Sample("xtrace_nccl_ras_up", "gauge", (), int(snapshot.ras_answers))
    if snapshot.ras is not None:
        yield from ras_samples(snapshot.ras)


def call_samples(snapshot: NcclSnapshot) -> Iterator[Sample]:
    """Of each process, function and datatype."""
    for series, calls in snapshot.sums.calls.items():
        labels: Labels = (
            ("pid", series.pid),
            ("command", valid_unicode(series.command)),
            ("function", series.function),
            ("datatype", series.datatype),
        )
        yield Sample("xtrace_nccl_calls_total", "counter", labels, calls.calls)
        yield Sample("xtrace_nccl_requested_bytes_total", "counter", labels, calls.requested_bytes)
        yield Sample("xtrace_nccl_unsized_calls_total", "counter", labels, calls.unsized_calls)
        yield Sample("xtrace_nccl_returned_calls_total", "counter", labels, calls.returned)
        yield Sample("xtrace_nccl_call_seconds_total", "counter", labels, calls.latency_ns / 1e9)


def ras_samples(report: RasReport) -> Iterator[Sample]:
    """Of each communicator that a RAS service told of, the worst first."""
    worst_first = sorted(report.communicators, key=_badness, reverse=True)
    for communicator in worst_first[:MOST_COMMUNICATORS]:
        labels = (("communicator", communicator.name),)
        yield Sample("xtrace_nccl_ras_ranks", "gauge", labels, communicator.ranks)
        yield Sample("xtrace_nccl_ras_missing_ranks", "gauge", labels, len(communicator.missing))
        yield Sample("xtrace_nccl_ras_async_error_ranks", "gauge", labels, len(communicator.async_errors))
        yield Sample("xtrace_nccl_ras_skew_calls", "gauge", labels, communicator.skew)
        yield Sample("xtrace_nccl_ras_age_seconds", "gauge", labels, round(communicator.age_ns / 1e9, 3))


def _badness(communicator: RasCommunicator) -> tuple[int, int, int]:
    return len(communicator.missing), len(communicator.async_errors), communicator.skew
