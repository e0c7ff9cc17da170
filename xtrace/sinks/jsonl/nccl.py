"""Records of mode nccl: one per process, one per communicator, and one per interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xtrace.model.nccl import (
    Communicator,
    NcclProcess,
    NcclSetup,
    NcclSnapshot,
    Operation,
    RunCalls,
    sum_counters,
    total_bytes,
)
from xtrace.model.nccl_names import IN_PROGRESS, latency_limit_ns
from xtrace.model.nccl_ras import RasRank, RasReport
from xtrace.sinks.jsonl.lines import rendered
from xtrace.sinks.jsonl.nccl_ranks import rank_records, verdict_records
from xtrace.sinks.kinds import JsonOptions, Record
from xtrace.sinks.render import timestamp, valid_unicode


class NcclJson:
    """Records of processes, communicators and the interval."""

    def __init__(self, options: JsonOptions) -> None:
        self._identity = options.identity

    def setup(self, setup: NcclSetup) -> Record:
        """How functions are probed, and the capacity of the call table."""
        own = {"attach": setup.attach, "returns": setup.has_returns, "max_keys": setup.max_keys}
        return {"nccl": {**own, "map_memory_bytes": setup.map_memory}}

    def lines(self, snapshot: NcclSnapshot) -> Iterator[bytes]:
        """All records of one interval."""
        return rendered(nccl_records(snapshot, self._identity))

    def totals(self, totals: RunCalls) -> Record:
        """Calls of the whole run."""
        return {"nccl": {"calls": totals.sum.calls, "unattributed_calls": totals.sum.unattributed}}


def nccl_records(snapshot: NcclSnapshot, identity: Record) -> Iterator[Record]:
    """All records of one interval."""
    common = {
        "ts": timestamp(snapshot.end_ns),
        "interval_s": round(snapshot.interval_ns / 1e9, 3),
        **identity,
    }
    for process in snapshot.processes:
        yield process_record(process, common, snapshot.has_returns)
        for communicator in process.communicators:
            yield communicator_record(process, communicator, common, snapshot.has_returns)
    yield from rank_records(snapshot.ranks, common)
    yield from verdict_records(snapshot.verdicts, common)
    if snapshot.ras is not None:
        yield from ras_records(snapshot.ras, common)
    yield interval_record(snapshot, common)


def own_interval(process: NcclProcess) -> Record:
    """Its own length of the interval, if its calls were not counted in all of it."""
    return {} if process.seen_ns is None else {"interval_s": round(process.seen_ns / 1e9, 3)}


def process_record(process: NcclProcess, common: Record, has_returns: bool) -> Record:
    """One process: its sums, and its operations without a communicator."""
    nic = process.nic
    return {
        "type": "nccl_process",
        **common,
        **own_interval(process),
        "pid": process.pid,
        "command": valid_unicode(process.command),
        "container": process.container,
        "libraries": [valid_unicode(path) for path in process.libraries],
        "probed": process.probed,
        "ended": process.ended,
        **_sums(process.all_operations(), process.probed, has_returns),
        "communicators": len(process.communicators),
        "cuda_devices": process.cuda_devices,
        "operations": [operation_record(operation, has_returns) for operation in process.operations],
        "devices": list(nic.devices) if nic else None,
        "queue_pairs": nic.queue_pairs if nic else None,
        "queue_pairs_ts": timestamp(nic.read_ns) if nic and nic.read_ns else None,
        "nic_tx_bytes": nic.tx_bytes if nic else None,
        "nic_rx_bytes": nic.rx_bytes if nic else None,
    }


def communicator_record(process: NcclProcess, communicator: Communicator, common: Record, has_returns: bool) -> Record:
    """One communicator of a process, used or not."""
    return {
        "type": "nccl_communicator",
        **common,
        **own_interval(process),
        "pid": process.pid,
        "communicator": f"{communicator.address:#x}",
        "nranks": communicator.nranks,
        "rank": communicator.rank,
        "cuda_device": communicator.device,
        **_sums(communicator.operations, True, has_returns),
        "operations": [operation_record(operation, has_returns) for operation in communicator.operations],
    }


def _sums(operations: Iterable[Operation], seen: bool, has_returns: bool) -> Record:
    """Calls and bytes over several operations; null if the process is not probed."""
    operations = list(operations)
    if not seen:
        return dict.fromkeys(("calls", "requested_bytes", "returned", "errors", "async_errors"))
    counters = sum_counters(operations)
    return {
        "calls": counters.calls,
        "requested_bytes": total_bytes(operations),
        "returned": counters.returned if has_returns else None,
        "errors": sum(sum(operation.errors.values()) for operation in operations) if has_returns else None,
        "async_errors": sum(sum(operation.async_errors.values()) for operation in operations) if has_returns else None,
    }


def operation_record(operation: Operation, has_returns: bool) -> Record:
    """One function with one datatype; without return probes null for what these count."""
    counters = operation.counters
    returned = {
        "returned": counters.returned,
        "errors": operation.errors,
        "async_errors": operation.async_errors,
        "in_progress": counters.results[IN_PROGRESS],
        "latency_ns": counters.latency_ns,
        "latency_buckets": [
            {"below_ns": latency_limit_ns(bucket), "calls": calls}
            for bucket, calls in enumerate(counters.latency)
            if calls
        ],
    }
    return {
        "function": operation.function,
        "datatype": operation.datatype,
        "calls": counters.calls,
        "elements": counters.elements,
        "requested_bytes": operation.requested_bytes,
        **(returned if has_returns else dict.fromkeys(returned)),
    }


def ras_records(report: RasReport, common: Record) -> Iterator[Record]:
    """Yield one record per communicator that the RAS service reported."""
    for communicator in report.communicators:
        yield {
            "type": "nccl_ras",
            **common,
            "address": communicator.address or report.address,
            "nccl_version": communicator.nccl_version or report.nccl_version,
            "age_s": round(communicator.age_ns / 1e9, 3),
            "timeouts": report.timeouts,
            "communicator": communicator.name,
            "known_as": communicator.known_as,
            "nranks": communicator.size,
            "ranks": communicator.ranks,
            "missing_ranks": list(communicator.missing),
            "missing": [{**rank_record(rank), "dead": rank.is_dead} for rank in communicator.absent],
            "async_error_ranks": list(communicator.async_errors),
            "skew": communicator.skew,
            "collectives": [
                {"function": name, "least": least, "most": most}
                for name, (least, most) in communicator.counts.items()
                if most
            ],
            "behind": [
                {"function": name, "ranks": behind.total, "first": [rank_record(rank) for rank in behind.ranks]}
                for name, behind in communicator.behind.items()
            ],
        }


def rank_record(rank: RasRank) -> Record:
    """A rank and where it runs."""
    return {
        "rank": rank.rank,
        "host": valid_unicode(rank.host),
        "pid": rank.pid,
        "cuda_device": rank.cuda_device,
        "nvml_device": rank.nvml_device,
    }


def interval_record(snapshot: NcclSnapshot, common: Record) -> Record:
    """The interval: calls of all processes + unattributed == calls."""
    totals = snapshot.totals
    return {
        "type": "nccl",
        **common,
        "processes": len(snapshot.processes),
        "calls": snapshot.totals.calls,
        "unattributed_calls": totals.unattributed,
        "unattributed_elements": totals.unattributed_elements,
        "unattributed_returns": totals.unattributed_returns,
        "nested_calls": totals.nested,
        **snapshot.skipped._asdict(),
    }
