"""What NCCL calls are made of: sizes, groups by communicator, sums, metrics, text; and whose NICs carried what."""

from __future__ import annotations

import errno
import operator
import os
import platform
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.make_samples import flat
from xtrace.kernel import proc, symbols
from xtrace.kernel.proc import MappedFile
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.limits import changed
from xtrace.model.nccl import (
    COMMUNICATOR,
    COMMUNICATOR_KEY,
    COUNTERS,
    KEY,
    TOTALS,
    CallKey,
    CallTotals,
    Communicator,
    Counters,
    NcclProcess,
    NcclSnapshot,
    NicTraffic,
    Operation,
    sum_counters,
    total_bytes,
)
from xtrace.model.nccl_names import DATATYPES, FUNCTIONS, SIZES, datatype_name, latency_limit_ns, requested_bytes
from xtrace.model.nccl_ras import Behind, RasCommunicator, RasRank, RasReport
from xtrace.model.rdma import (
    Figure,
    PortId,
    PortInfo,
    PortRecord,
    Process,
    QueuePairRecord,
    QueuePairs,
    Rails,
    RdmaSnapshot,
    Reading,
)
from xtrace.model.rdma_limits import LIMITS
from xtrace.monitors import Monitor
from xtrace.monitors.joins.rdma_nccl import Nics
from xtrace.monitors.nccl import libraries, sums
from xtrace.monitors.nccl.calls import Known, check_sum
from xtrace.monitors.nccl.groups import NOTHING_KNOWN, group_calls
from xtrace.monitors.nccl.sums import Sums
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.nccl import DESCRIBED, MOST_COMMUNICATORS, MOST_PROCESSES, NcclMetrics, nccl_samples
from xtrace.sinks.registry import KINDS
from xtrace.sinks.text.nccl import nccl_lines

NO_RANK = int(lib.NCCL_NO_RANK)
MACHINE = {"x86_64": 62, "aarch64": 183}[platform.machine()]
FLOAT32 = DATATYPES.index("float32")


def key(function: str, communicator: int = 0x1000, nranks: int = 0, rank: int = NO_RANK, datatype: int = 7) -> CallKey:
    return CallKey(communicator, 1, nranks, rank, FUNCTIONS.index(function), datatype)


def counted(calls: int = 1, elements: int = 10, **fields: Any) -> Counters:
    return Counters(calls, elements, **fields)


def results(**counts: int) -> tuple[int, ...]:
    names = ("success", "cuda", "system", "internal", "argument", "usage", "remote", "in_progress", "timeout", "other")
    return tuple(counts.get(name, 0) for name in names)


def test_layouts_and_names_are_those_of_the_kernel_side() -> None:
    for name, layout in (
        ("nccl_key", KEY),
        ("nccl_counters", COUNTERS),
        ("nccl_totals", TOTALS),
        ("nccl_communicator_key", COMMUNICATOR_KEY),
        ("nccl_communicator", COMMUNICATOR),
    ):
        assert ffi.sizeof(f"struct {name}") == layout.size
    assert len(FUNCTIONS) == lib.NCCL_FUNCTIONS
    constants = [name.lower().replace("_", "") for name in dir(lib) if name.startswith("NCCL_")]
    assert all(f"nccl{function.lower()}" in constants for function in FUNCTIONS)
    for function in FUNCTIONS:
        name = next(n for n in dir(lib) if n.lower().replace("_", "") == f"nccl{function.lower()}")
        assert getattr(lib, name) == FUNCTIONS.index(function)
    assert len(DATATYPES) == len(SIZES) < lib.NCCL_NO_DATATYPE


@pytest.mark.parametrize(
    "function, datatype, nranks, size",
    [
        ("AllReduce", FLOAT32, None, 400),
        ("Send", 0, 8, 100),
        ("AllGather", FLOAT32, 8, 3200),
        ("AllGather", FLOAT32, None, None),
        ("AllReduce", 12, 8, None),
        ("GroupEnd", 255, None, 0),
    ],
)
def test_requested_bytes_are_known_or_not_told(
    function: str, datatype: int, nranks: int | None, size: int | None
) -> None:
    assert requested_bytes(function, datatype, nranks, 100) == size


def test_datatypes_have_the_sizes_that_their_names_say() -> None:
    said = {"int8": 8, "uint8": 8, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "float16": 16}
    said |= {"float32": 32, "float64": 64, "bfloat16": 16, "float8e4m3": 8, "float8e5m2": 8}
    assert {name: 8 * size for name, size in zip(DATATYPES, SIZES, strict=True)} == said
    assert [datatype_name(number) for number in (0, 7, 11, 12, 254)] == [
        *("int8", "float32", "float8e5m2", "unknown", "unknown")
    ]
    assert datatype_name(int(lib.NCCL_NO_DATATYPE)) is None


def test_hits_of_a_call_that_was_counted_already_are_no_calls() -> None:
    counted_once = CallTotals(entries=100, nested=7, duplicate=2, unattributed=5)
    assert counted_once.calls == 91
    assert (counted_once + CallTotals(entries=10, nested=1)).calls == 100


def test_counters_add_up_with_counters_alone() -> None:
    for total in (Counters(), CallTotals()):
        with pytest.raises(TypeError):
            operator.add(total, (1, 2))
        assert total + total == total
    assert sum_counters([]) == Counters(0, 0, 0, 0)


def test_bytes_that_cannot_be_are_not_told() -> None:
    limit = (1 << 63) - 1
    assert total_bytes([operation(size=limit - 1), operation(size=1)]) == limit
    assert total_bytes([operation(size=limit), operation(size=1)]) is None
    assert requested_bytes("AllReduce", 0, None, limit) == limit
    assert requested_bytes("AllReduce", 0, None, limit + 1) is None
    assert requested_bytes("AllReduce", FLOAT32, None, 1 << 60) == 1 << 62
    assert requested_bytes("AllReduce", FLOAT32, None, 1 << 61) is None
    assert total_bytes([operation(size=1 << 62), operation(size=1 << 62)]) is None
    most = (1 << 64) - 1
    assert (counted(elements=most) + counted(elements=2)).elements == 1
    assert (CallTotals(unattributed_elements=most) + CallTotals(unattributed_elements=2)).unattributed_elements == 1


def test_limits_of_latency_are_powers_of_two_from_a_microsecond_on() -> None:
    assert [latency_limit_ns(bucket) for bucket in (0, 1, 30, 31)] == [1024, 2048, 1 << 40, None]


def test_calls_are_grouped_by_communicator_whether_used_or_not() -> None:
    known = {0x1000: Known(8, 3, 0), 0x2000: Known(2, 1, None)}
    groups = group_calls({key("AllReduce", nranks=8, rank=3): counted()}, known)
    assert {group: len(operations) for group, operations in groups.items()} == {
        (0x1000, known[0x1000]): 1,
        (0x2000, known[0x2000]): 0,
    }


def test_what_was_learnt_during_the_interval_holds_for_its_earlier_calls() -> None:
    calls = {key("AllGather"): counted(2, 20), key("AllGather", nranks=8, rank=3): counted(1, 10)}
    groups = group_calls(calls, {0x1000: Known(8, 3, None)})
    ((operation,),) = groups.values()
    assert (operation.counters.calls, operation.requested_bytes) == (3, 30 * 4 * 8)


def test_communicators_that_followed_each_other_at_one_address_stay_apart() -> None:
    calls = {key("AllReduce", nranks=8, rank=3): counted(), key("AllReduce", nranks=2, rank=0): counted()}
    groups = group_calls(calls, {0x1000: Known(2, 0, 5)})
    assert set(groups) == {(0x1000, Known(8, 3, None)), (0x1000, Known(2, 0, 5))}


def test_calls_without_communicator_belong_to_none() -> None:
    groups = group_calls({key("GroupEnd", communicator=0, datatype=255): counted(1, 0)}, {0x1000: Known(2, 0, None)})
    ((operation,),) = [operations for group, operations in groups.items() if group == (0, NOTHING_KNOWN)]
    assert (operation.function, operation.datatype) == ("GroupEnd", None)


def test_calls_that_do_not_add_up_are_said(caplog: pytest.LogCaptureFixture) -> None:
    calls = {key("AllReduce"): counted(5)}
    check_sum(calls, CallTotals(entries=9, nested=1, duplicate=1, unattributed=2))
    assert caplog.text == ""
    check_sum(calls, CallTotals(entries=10, nested=1, duplicate=1, unattributed=2))
    assert "NCCL calls do not add up: 1 missing" in caplog.text


def process(pid: int = 7, ended: bool = False, operations: tuple[Operation, ...] = ()) -> NcclProcess:
    communicator = Communicator(0x1000, 8, 3, 0, operations)
    nic = NicTraffic(("mlx5_0",), 4, 1000, None)
    return NcclProcess(pid, "/usr/bin/python3 train.py", "ab" * 32, (), True, ended, (communicator,), (), nic)


def operation(name: str = "AllReduce", size: int | None = 40, **fields: Any) -> Operation:
    return Operation(name, "float32", size, counted(**fields))


def test_sums_of_a_run_add_up_and_end_with_their_process() -> None:
    kept = Sums()
    failed = operation(returned=1, latency_ns=5, results=results(argument=1, in_progress=1))
    for _ in range(2):
        found = kept.add([process(operations=(failed, operation("AllGather", None)))], CallTotals(unattributed=1))
    by_name = {series.function: calls for series, calls in found.calls.items()}
    assert by_name["AllReduce"] == (2, 80, 0, 2, 10)
    assert by_name["AllGather"] == (2, 0, 2, 0, 0)
    assert list(found.errors.values()) == [2]
    assert found.totals.unattributed == 2
    assert kept.add([process(ended=True, operations=(operation(),))], CallTotals()).calls
    gone = kept.add([], CallTotals())
    assert (gone.calls, gone.errors) == ({}, {})


def test_series_are_bounded_and_the_rest_shares_one() -> None:
    kept = Sums(most=2)
    found = kept.add([process(pid, operations=(operation(),)) for pid in range(5)], CallTotals())
    assert [(series.pid, calls.calls) for series, calls in found.calls.items()] == [("0", 1), ("1", 1), ("other", 3)]


def test_series_that_is_known_grows_on_in_a_full_table() -> None:
    kept = Sums(most=1)
    for _ in range(3):
        found = kept.add([process(pid, operations=(operation(),)) for pid in (1, 2)], CallTotals())
    assert [(series.pid, calls.calls) for series, calls in found.calls.items()] == [("1", 3), ("other", 3)]


def test_process_that_got_the_number_of_an_ended_one_begins_anew_and_stays() -> None:
    kept = Sums()
    failed = operation(results=results(argument=1))
    kept.add([process(7, ended=True, operations=(failed,))], CallTotals())
    for interval in (1, 2, 3):
        found = kept.add([process(7, operations=(failed,))], CallTotals())
        assert [calls.calls for calls in found.calls.values()] == [interval]
        assert list(found.errors.values()) == [interval]


@pytest.mark.parametrize("command, name", [("/usr/bin/python3 x.py", "python3"), ("[kworker]", "[kworker]"), ("", "")])
def test_a_command_is_labelled_by_what_is_run(command: str, name: str) -> None:
    assert sums.short_name(command) == name


REPORT = RasReport(
    "localhost:1",
    0,
    "2.28.9",
    (RasCommunicator("0x1", 4, 3, (2,), (0,), {"AllReduce": (10, 12)}), RasCommunicator("0x2", 2, 2, (), (), {})),
    0,
)


def snapshot(**fields: Any) -> NcclSnapshot:
    failed = operation(returned=1, latency_ns=2_000_000_000, results=results(remote=1))
    asked = Operation("CommGetAsyncError", None, 0, counted(1, 0, returned=1, results=results(system=1)))
    processes = (process(operations=(failed, asked)),)
    totals = CallTotals(entries=2)
    return NcclSnapshot(5_000_000_000, 1_000_000_000, processes, totals, Sums().add(processes, totals), **fields)


def test_metrics_are_described_and_told_once() -> None:
    samples = flat(nccl_samples(snapshot(ras=REPORT, ras_answers=True)))
    assert {sample.name for sample in samples} == set(DESCRIBED)
    assert len({(sample.name, sample.labels) for sample in samples}) == len(samples)
    values = {(sample.name, *(value for _, value in sample.labels)): sample.value for sample in samples}
    reduced = ("7", "python3", "AllReduce", "float32")
    assert values[("xtrace_nccl_calls_total", *reduced)] == 1
    assert values[("xtrace_nccl_requested_bytes_total", *reduced)] == 40
    assert values[("xtrace_nccl_call_seconds_total", *reduced)] == 2.0
    assert values["xtrace_nccl_errors_total", "7", "python3", "remote_error"] == 1
    assert values["xtrace_nccl_async_errors_total", "7", "python3", "system_error"] == 1
    assert values["xtrace_nccl_ras_missing_ranks", "0x1"] == 1
    assert values["xtrace_nccl_ras_skew_calls", "0x1"] == 2
    assert values["xtrace_nccl_ras_up",] == 1


def test_each_sum_is_shown_under_its_own_name() -> None:
    """All different, so that none can stand in for another."""
    counted_calls = counted(9, 90, returned=7, latency_ns=3_000_000_000)
    unsized = Operation("AllGather", "float32", None, counted(5, 50, returned=2, latency_ns=1_000_000_000))
    sized = Operation("AllReduce", "float32", 36, counted_calls)
    processes = (process(operations=(sized, unsized)),)
    totals = CallTotals(entries=17, unattributed=3)
    told = NcclSnapshot(5_000_000_000, 10**9, processes, totals, Sums().add(processes, totals), ras_answers=False)
    values = {(sample.name, dict(sample.labels).get("function")): sample.value for sample in flat(nccl_samples(told))}
    names = ("calls", "requested_bytes", "unsized_calls", "returned_calls", "call_seconds")
    assert [values[f"xtrace_nccl_{name}_total", "AllReduce"] for name in names] == [9, 36, 0, 7, 3.0]
    assert [values[f"xtrace_nccl_{name}_total", "AllGather"] for name in names] == [5, 0, 5, 2, 1.0]
    assert values["xtrace_nccl_unattributed_calls_total", None] == 3
    assert values["xtrace_nccl_ras_up", None] == 0


def ras_communicator(name: str, missing: int = 0, failed: int = 0, skew: int = 0, age_ns: int = 0) -> RasCommunicator:
    counts = {"AllReduce": (10, 10 + skew)}
    lost, broken = tuple(range(missing)), tuple(range(failed))
    return RasCommunicator(name, 90, 80, lost, broken, counts, age_ns=age_ns)


def test_skew_is_that_of_the_collective_whose_ranks_differ_most() -> None:
    counts = {"AllReduce": (10, 12), "Broadcast": (4, 9), "Send": (7, 7)}
    assert RasCommunicator("0x1", 8, 8, (), (), counts).skew == 5
    assert RasCommunicator("0x1", 8, 8, (), (), {}).skew == 0


def test_what_a_ras_service_says_is_shown_under_its_own_names() -> None:
    report = RasReport("localhost:1", 0, "2.28.9", (ras_communicator("0x1", 2, 3, 5, 7 * 10**9),), 0)
    values = {sample.name: sample.value for sample in flat(nccl_samples(NcclSnapshot(1, 10**9, ras=report)))}
    shown = ("ranks", "missing_ranks", "async_error_ranks", "skew_calls", "age_seconds")
    assert [values[f"xtrace_nccl_ras_{name}"] for name in shown] == [80, 2, 3, 5, 7.0]
    assert "xtrace_nccl_ras_up" not in values


def test_communicators_of_a_ras_service_are_bounded_and_the_worst_are_kept() -> None:
    well = [ras_communicator(f"well{number}") for number in range(MOST_COMMUNICATORS)]
    bad = [
        ras_communicator("skewed", skew=9), ras_communicator("failed", failed=1, skew=1),
        ras_communicator("missing", missing=1), ras_communicator("worse", missing=2),
    ]  # fmt: skip
    report = RasReport("localhost:1", 0, "2.28.9", (*well, *bad), 0)
    samples = flat(nccl_samples(NcclSnapshot(1, 10**9, ras=report)))
    told = [dict(sample.labels)["communicator"] for sample in samples if sample.name == "xtrace_nccl_ras_ranks"]
    assert len(told) == MOST_COMMUNICATORS == 100
    assert told[:4] == ["worse", "missing", "failed", "skewed"]


def test_text_names_missing_ranks_and_those_behind_a_few_of_them() -> None:
    ranks = tuple(RasRank(number, "n1", 100 + number, number, number) for number in range(9))
    found = RasCommunicator(
        "0x1", 100, 91, tuple(range(9)), (), {"AllReduce": (1, 3)}, ranks, {"AllReduce": Behind(70, ranks[:1])},
        age_ns=65 * 10**9,
    )  # fmt: skip
    line = next(nccl_lines(NcclSnapshot(1, 10**9, ras=RasReport("localhost:1", 0, "2.28.9", (found,), 0))))
    assert line == (
        "ras 0x1 ranks=91/100 missing=0,1,2,3,4,5,6,7,8 skew=2 AllReduce=1..3"
        " missing_at=0@n1/100/gpu0,1@n1/101/gpu1,2@n1/102/gpu2,3@n1/103/gpu3,+5"
        " behind_AllReduce=0@n1/100/gpu0,+69 age=65s\n"
    )


@pytest.mark.parametrize(
    "missing, told", [(3, "0@n1/100,1@n1/101,2@n1/102"), (4, "0@n1/100,1@n1/101,2@n1/102,3@n1/103")]
)
def test_text_names_a_few_missing_ranks_and_no_more_than_there_are(missing: int, told: str) -> None:
    ranks = tuple(RasRank(number, "n1", 100 + number) for number in range(missing))
    found = RasCommunicator("0x1", 8, 8 - missing, tuple(range(missing)), (), {}, ranks)
    line = next(nccl_lines(NcclSnapshot(1, 10**9, ras=RasReport("localhost:1", 0, "2.28.9", (found,), 0))))
    assert line.endswith(f" missing_at={told}\n")


def test_nothing_is_told_of_a_service_that_was_not_asked() -> None:
    assert not [sample for sample in flat(nccl_samples(snapshot())) if sample.name.startswith("xtrace_nccl_ras")]


def test_age_of_an_answer_is_told_to_the_millisecond() -> None:
    report = RasReport("localhost:1", 0, "2.28.9", (ras_communicator("0x1", age_ns=7_123_456_789),), 0)
    samples = flat(nccl_samples(NcclSnapshot(1, 10**9, ras=report)))
    assert [sample.value for sample in samples if sample.name == "xtrace_nccl_ras_age_seconds"] == [7.123]


def test_mode_has_these_samples_and_no_figures_of_the_tool() -> None:
    kind = NcclMetrics()
    assert list(kind.samples(snapshot())) == list(nccl_samples(snapshot()))
    assert kind.own(None) == {}


def test_push_knows_the_mode() -> None:
    make = KINDS[NcclSnapshot.mode].metrics
    assert make is not None
    assert isinstance(make(MetricsOptions(1)), NcclMetrics)


def test_text_has_the_name_that_a_communicator_of_ras_has_here() -> None:
    named = replace(ras_communicator("0x1"), known_as="0000000000000001")
    lines = list(nccl_lines(snapshot(ras=RasReport("localhost:1", 0, "2.28.9", (named,), 0))))
    assert any(line.startswith("ras 0x1 communicator=0000000000000001 ranks=80/90 ") for line in lines)


def test_text_is_a_block_per_process_and_a_line_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(nccl_lines(snapshot(ras=REPORT))).splitlines()
    assert lines[0] == (
        "nccl pid=7 communicators=1 calls=2 requested=40 (40 B/s) errors=1 gpus=0 devices=mlx5_0 qps=4"
        " nic_tx=1000B/s nic_rx=n/a container=abababababab [/usr/bin/python3 train.py]"
    )
    assert lines[1] == (
        "  0x1000 rank=3/8 gpu=0 AllReduce float32 calls=1 elements=10 requested=40 (40 B/s) latency=2000000.0us"
        " remote_error=1"
    )
    assert lines[2].endswith("CommGetAsyncError calls=1 latency=0.0us async_system_error=1")
    assert lines[3] == "ras 0x1 ranks=3/4 missing=2 skew=2 AllReduce=10..12 async_errors=0"
    assert lines[4] == "ras 0x2 ranks=2/2 missing=none skew=0"
    assert lines[5].endswith(" 1.0s processes=1 idle=0 calls=2 requested=40 unattributed=0")


def test_processes_that_only_have_the_library_are_counted_in_text_not_listed() -> None:
    worker = NcclProcess(8, "worker", None, ("/libnccl.so.2",), True, False)
    hidden = NcclProcess(9, "hidden", None, ("/libnccl.so.2",), False, False)
    lines = list(nccl_lines(NcclSnapshot(1, 1_000_000_000, (worker, hidden))))
    assert [line.split()[1] for line in lines[:-1]] == ["pid=9"]
    assert "calls=n/a requested=n/a" in lines[0]
    assert "processes=2 idle=1 calls=0" in lines[-1]


def test_metrics_of_communicators_are_bounded_and_not_of_idle_processes() -> None:
    idle = [NcclProcess(pid, "worker", None, ("/libnccl.so.2",), True, False) for pid in range(10)]
    hidden = NcclProcess(10, "hidden", None, ("/libnccl.so.2",), False, False)
    busy = [process(pid) for pid in range(11, 12 + MOST_PROCESSES)]
    samples = flat(nccl_samples(NcclSnapshot(1, 1_000_000_000, (*idle, hidden, *busy))))
    told = [dict(sample.labels)["pid"] for sample in samples if sample.name == "xtrace_nccl_communicators"]
    assert told == [str(pid) for pid in range(11, 11 + MOST_PROCESSES)]


def queue_pair(device: str, pid: int | None, number: int) -> QueuePairRecord:
    return QueuePairRecord(PortId(device, 1), number, "RC", "RTS", None, Process(pid, "x"))


def port(device: str, tx: int | None) -> PortRecord:
    figures = {
        "tx_bytes": Figure(Reading(tx, tx, "ok" if tx is not None else "unavailable"), ("tx",)),
        "rx_bytes": Figure(Reading(5, 5, "ok"), ("rx",)),
    }
    return PortRecord(PortId(device, 1), PortInfo(), 1, figures)


class PlayedRdma:
    """Mode rdma, with one snapshot."""

    def __init__(self, pairs: QueuePairs, ports: tuple[PortRecord, ...]) -> None:
        self._snapshot = RdmaSnapshot(1, 1, ports, pairs)

    def tick(self) -> RdmaSnapshot:
        return self._snapshot


PAIRS = QueuePairs((queue_pair("mlx5_0", 7, 1), queue_pair("mlx5_1", 7, 2), queue_pair("mlx5_2", 8, 3)), end_ns=1)
PORTS = (port("mlx5_0", 100), port("mlx5_1", 20), port("mlx5_2", None))


def nics(pairs: QueuePairs = PAIRS, users: Callable[[], list[int]] | None = None) -> Nics:
    return Nics(cast("Monitor[RdmaSnapshot]", PlayedRdma(pairs, PORTS)), users)


def test_a_process_has_the_devices_of_its_queue_pairs_and_their_bytes() -> None:
    watched = nics()
    watched.tick()
    assert watched.traffic_of(7, 1) == NicTraffic(("mlx5_0", "mlx5_1"), 2, 120, 10, read_ns=1)
    assert watched.traffic_of(8, 1) == NicTraffic(("mlx5_2",), 1, None, 5, read_ns=1)
    assert watched.traffic_of(9, 1) == NicTraffic((), 0, None, None, read_ns=1)


def test_of_a_process_without_queue_pairs_in_an_earlier_round_nothing_is_known() -> None:
    watched = nics()
    watched.tick()
    assert watched.traffic_of(9, 2) is None
    assert watched.traffic_of(7, 2) is not None


def test_before_queue_pairs_were_read_nothing_is_known() -> None:
    watched = nics(QueuePairs())
    assert watched.traffic_of(7, 1) is None
    watched.tick()
    assert watched.traffic_of(7, 1) is None


def test_where_a_device_could_not_be_asked_nothing_is_known() -> None:
    watched = nics(QueuePairs(PAIRS.records, 1, ("RDMA RES_QP_GET(mlx5_3): EBUSY",)))
    watched.tick()
    assert watched.traffic_of(7, 1) is None
    assert watched.traffic_of(9, 1) is None


@pytest.mark.parametrize("numbers, alike", [("4711", True), ("4711\t12", False)])
def test_a_proc_of_an_outer_namespace_has_other_numbers_than_netlink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: str, alike: bool
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"Name:\tx\nNSpid:\t{numbers}\nVmPeak:\t1\n")
    monkeypatch.setattr(proc, "_proc", lambda: str(tmp_path))
    assert proc.numbers_as_own() is alike


def ticked(watched: Nics) -> RdmaSnapshot:
    snapshot = watched.tick()
    assert snapshot is not None
    return snapshot


def test_only_devices_of_nccl_processes_are_told_of_without_mode_rdma() -> None:
    told = ticked(nics(users=lambda: [7]))
    assert [record.id.device for record in told.ports] == ["mlx5_0", "mlx5_1"]
    assert {record.process.pid for record in told.queue_pairs.records} == {7}
    assert len(ticked(nics()).ports) == 3


def test_device_that_is_gone_is_told_of_without_mode_rdma() -> None:
    gone = replace(port("mlx5_9", 1), gone=True, unavailable="the RDMA device is gone")
    watched = Nics(cast("Monitor[RdmaSnapshot]", PlayedRdma(QueuePairs(), (port("mlx5_0", 1), gone))), lambda: [1])
    told = ticked(watched)
    assert [record.id.device for record in told.ports] == ["mlx5_9"]
    assert told.rails.health == "critical"


def test_rails_are_those_of_nccl_processes_without_mode_rdma() -> None:
    ports = tuple(replace(port(f"mlx5_{number}", tx), info=PortInfo("ACTIVE")) for number, tx in enumerate((45, 45, 0)))
    played = PlayedRdma(PAIRS, (*ports, replace(port("mlx5_9", 5), info=PortInfo("DOWN"))))
    watched = Nics(cast("Monitor[RdmaSnapshot]", played), lambda: [7])
    assert ticked(watched).rails == Rails(2, 1.0)
    strict = Nics(
        cast("Monitor[RdmaSnapshot]", played), lambda: [7, 8], changed(LIMITS, "imbalance=1.2", "--threshold")
    )
    told = ticked(strict).rails
    assert (told.ports, told.down, told.health) == (3, (), "warn")
    assert told.reasons == ("1.43 times the mean on the busiest port",)


@pytest.mark.parametrize(
    "path, is_nccl",
    [
        ("/usr/lib/libnccl.so.2", True),
        ("/x/libnccl.so.2.27.5 (deleted)", True),
        ("/opt/rocm/lib/librccl.so.1", True),
        ("/usr/lib/libnccl-net.so", False),
        ("/usr/lib/libnccl-tuner-example.so.2", False),
    ],
)
def test_the_library_is_known_by_its_name(path: str, is_nccl: bool) -> None:
    assert bool(libraries.NAMED.search(path)) is is_nccl


@pytest.mark.parametrize(
    "paths, probed",
    [
        (["/usr/lib/libnccl.so.2", "/opt/profiler.so"], ["/usr/lib/libnccl.so.2"]),
        (["/opt/static", "/opt/plugin.so"], ["/opt/static", "/opt/plugin.so"]),
    ],
)
def test_beside_the_library_others_that_define_its_functions_are_left_out(paths: list[str], probed: list[str]) -> None:
    found = [
        libraries.Library(libraries.Identity(1, inode, 1, 1, 1), path, 7, MappedFile("00:01", inode, path, "1-2"), {})
        for inode, path in enumerate(paths)
    ]
    chosen, left_out = libraries.split(found)
    assert [library.path for library in chosen.values()] == probed
    assert [library.path for library in left_out.values()] == [path for path in paths if path not in probed]


def test_files_that_are_no_programs_have_no_functions(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"x" * 100), ("cut", b"\x7fELF\x02\x01\x01" + bytes(57))):
        (tmp_path / name).write_bytes(content)
        assert libraries.find_functions(str(tmp_path / name)) == {}
    with pytest.raises(FileNotFoundError):
        libraries.find_functions(str(tmp_path / "absent"))


def test_tables_that_claim_to_be_huge_are_not_read(tmp_path: Path) -> None:
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, MACHINE, 1, 0, 0, 64, 0, 64, 56, 0, 64, 2, 0)
    for size in (1 << 40, (1 << 64) - 1):
        table = struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, 0, size, 1, 0, 8, 24)
        names = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 0, size, 0, 0, 1, 0)
        (tmp_path / "huge").write_bytes(header + table + names)
        with pytest.raises(symbols.TooLarge):
            libraries.find_functions(str(tmp_path / "huge"))


def test_functions_at_offsets_that_no_file_has_are_none(tmp_path: Path) -> None:
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, MACHINE, 1, 0, 64, 120, 0, 64, 56, 1, 64, 2, 0)
    for at, wanted in ((0x200, {0: 0x210}), ((1 << 64) - 8, {})):
        segment = struct.pack("<IIQQQQQQ", 1, 5, at, 0x1000, 0, 0x100, 0x100, 0x1000)
        symbols = struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, 248, 24, 1, 0, 8, 24)
        names = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 272, 15, 0, 0, 1, 0)
        symbol = struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 0x1010, 8)
        (tmp_path / "far").write_bytes(header + segment + symbols + names + symbol + b"\0ncclAllReduce\0")
        assert libraries.find_functions(str(tmp_path / "far")) == wanted


def elf(*strings: bytes) -> bytes:
    """A file with a symbol table for each of these string tables: one function, named by what begins at 1."""
    count = 1 + 2 * len(strings)
    at = 64 + 56 + 64 * count
    sections, tables = bytes(64), b""
    for names in strings:
        link = len(sections) // 64 + 1
        sections += struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, at, 24, link, 0, 8, 24)
        sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at + 24, len(names), 0, 0, 1, 0)
        tables += struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 0x1010, 8) + names
        at += 24 + len(names)
    ident = b"\x7fELF\x02\x01\x01"
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, MACHINE, 1, 0, 64, 120, 0, 64, 56, 1, 64, count, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x1000, 0, 0x100, 0x100, 0x1000) + sections + tables


def test_what_is_read_of_one_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others, wanted = b"\0other\0", b"\0ncclAllReduce\0"

    def found(*strings: bytes) -> dict[int, int]:
        (tmp_path / "crafted").write_bytes(elf(*strings))
        return libraries.find_functions(str(tmp_path / "crafted"))

    assert found(*[others] * (symbols.MOST_TABLES - 1), wanted) == {0: 0x10}
    assert found(*[others] * symbols.MOST_TABLES, wanted) == {}
    # each table is small enough, all together are not
    monkeypatch.setattr(symbols, "MOST_BYTES", 64 + 56 + 5 * 64 + 1000 + len(wanted) + 24)
    assert found(bytes(1000), wanted) == {0: 0x10}
    monkeypatch.setattr(symbols, "MOST_BYTES", symbols.MOST_BYTES - 1)
    with pytest.raises(symbols.TooLarge):
        found(bytes(1000), wanted)


def places(path: Path, strings: bytes, *names: str) -> dict[int, str]:
    """Where the names are in a table of strings that begins at offset 3 of a file."""
    path.write_bytes(b"abc" + strings)
    with path.open("rb") as file:
        table = symbols._Table(0, 0, 3, len(strings))
        pattern = re.compile(b"(" + b"|".join(name.encode() for name in names) + b")\0")
        return symbols._places(symbols._File(file.fileno()), table, pattern)


def test_a_name_that_is_repeated_without_end_is_found_where_it_begins(tmp_path: Path) -> None:
    assert len(places(tmp_path / "strings", b"\0send\0" * 100_000, "send")) == symbols.MOST_PLACES
    assert places(tmp_path / "strings", b"\0psend\0send\0recv\0", "send", "recv") == {2: "send", 7: "send", 12: "recv"}


@pytest.mark.parametrize("piece", [24, 25, 29, 31, 48])
def test_names_and_symbols_at_the_edge_of_a_piece_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(symbols, "PIECE", piece)
    for shift in range(piece):
        strings = b"\0" * shift + b"\0ncclSend\0pncclSend\0"
        found = places(tmp_path / "strings", strings, "ncclSend", "ncclRecv")
        assert found == {shift + 1: "ncclSend", shift + 11: "ncclSend"}
    (tmp_path / "crafted").write_bytes(elf(b"\0other\0", b"\0ncclAllReduce\0"))
    assert libraries.find_functions(str(tmp_path / "crafted")) == {0: 0x10}


class PlayedProc:
    """A proc of processes that have files mapped, each with a root of its own."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        monkeypatch.setattr(proc, "_proc", lambda: str(directory))

    def stands(self, pid: int, content: bytes, name: str = "libnccl.so.2") -> Path:
        """A file that stands under /`name` for the process."""
        path = self._directory / str(pid) / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        return path

    def mapped(self, pid: int, path: Path) -> None:
        """What its link in map_files leads to."""
        link = self._directory / str(pid) / "map_files/1-2"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)


def mapping_of(path: Path) -> MappedFile:
    """The line of /proc/PID/maps of a process that has mapped this file as /libnccl.so.2."""
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    return MappedFile(device, status.st_ino, f"/{path.name}", "1-2")


@pytest.fixture
def played_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedProc:
    return PlayedProc(tmp_path / "proc", monkeypatch)


def libraries_of(files: libraries.SearchedFiles, pid: int, *mappings: MappedFile) -> list[libraries.Library]:
    found = (files.library(pid, mapped) for mapped in mappings)
    return [library for library in found if library is not None and library.is_user]


def test_a_library_that_may_not_be_read_says_so(played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> dict[int, int]:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(libraries, "find_functions", refuse)
    named, other = (mapping_of(played_proc.stands(1, b"x", name)) for name in ("libnccl.so.2", "other.so"))
    (found,) = libraries_of(libraries.SearchedFiles(), 1, named, other)
    assert (found.offsets, found.problem) == ({}, "it cannot be read: Permission denied")


def test_a_file_is_looked_into_once_and_reached_through_each_process(
    played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def note(path: str) -> dict[int, int]:
        looked.append(path)
        return {0: 64}

    monkeypatch.setattr(libraries, "find_functions", note)
    one = played_proc.stands(7, b"x")
    (one.parents[2] / "8").symlink_to(one.parents[1])
    files = libraries.SearchedFiles()
    first, second = (libraries_of(files, pid, mapping_of(one))[0] for pid in (7, 8))
    # the first process may be gone by now
    assert (first.pid, second.pid) == (7, 8)
    assert first.identity == second.identity
    assert len(looked) == 1


def read_first_byte(path: str) -> dict[int, int]:
    """Stands for a look into a file: what is found depends on its content."""
    return {0: Path(path).read_bytes()[0]}


def test_a_file_that_stands_under_the_path_in_another_namespace_is_not_taken_for_it(
    played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_functions", read_first_byte)
    real = played_proc.stands(7, b"r")
    crafted = played_proc.stands(8, b"c")
    files = libraries.SearchedFiles()
    # both have the very same mapping, size and time; 8 may have given its file the same inode number, too
    mapping = mapping_of(real)
    (other,) = libraries_of(files, 8, mapping)
    (library,) = libraries_of(files, 7, mapping)
    assert (other.offsets, library.offsets) == ({0: ord("c")}, {0: ord("r")})
    assert other.identity != library.identity
    # where the link to the mapped file may be followed, that counts
    played_proc.mapped(8, real)
    (other,) = libraries_of(files, 8, mapping)
    assert other.identity == library.identity
    with libraries.opened(other) as path:
        assert Path(path).samefile(real)
    assert not crafted.samefile(real)


def test_what_is_probed_is_what_was_looked_into(played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_functions", read_first_byte)
    path = played_proc.stands(7, b"1")
    (library,) = libraries_of(libraries.SearchedFiles(), 7, mapping_of(path))
    with libraries.opened(library) as own:
        assert Path(own).read_bytes() == b"1"
    # the same inode, size and time of modification, of another content
    while path.stat().st_ctime_ns == library.identity.changed_ns:
        played_proc.stands(7, b"2")
    with pytest.raises(OSError, match="Stale"), libraries.opened(library):
        pass
    path.unlink()
    with pytest.raises(OSError, match="Stale"), libraries.opened(library):
        pass


@pytest.mark.parametrize("kind", ["fifo", "link", "empty"])
def test_only_files_with_a_content_are_opened(
    played_proc: PlayedProc, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(libraries, "find_functions", lambda path: pytest.fail(f"{path} was opened"))
    path = played_proc.stands(7, b"")
    if kind != "empty":
        path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    file = MappedFile("00:01", path.lstat().st_ino, "/libnccl.so.2", "1-2")
    assert libraries_of(libraries.SearchedFiles(), 7, file) == []
