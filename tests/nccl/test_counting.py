"""Every call is counted once: across drains, threads and CPUs, in both ways to probe."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.nccl.jobs import (
    REAL_FUNCTIONS,
    STANDIN_FUNCTIONS,
    calling,
    expected,
    job,
    of_process,
    operations,
    standin,
    total,
    wait_for_probes,
    watching,
)
from tests.nccl.native import GUARDED, native
from tests.netns.tool import Result
from tests.support.net import of_type
from xtrace.model.nccl_names import DATATYPES, FUNCTIONS, PER_RANK, SIZES
from xtrace.monitors.nccl.libraries import find_cheap, find_functions

CALLS = 100_000
INVALID = "invalid_argument"


def seen(result: Result, pid: int) -> dict[tuple[str, int], tuple[int, int]]:
    """Function and datatype's number -> calls and elements, over all intervals."""
    sums: dict[tuple[str, int], tuple[int, int]] = {}
    for operation in operations(result.records, pid):
        if operation["calls"]:
            what = operation["function"], DATATYPES.index(operation["datatype"])
            calls, elements = sums.get(what, (0, 0))
            sums[what] = calls + operation["calls"], elements + operation["elements"]
    return sums


def watched(library: Path, calls: int, threads: int, variables: dict[str, str]) -> tuple[Result, int]:
    """What the tool told of a caller, with a drain every 100 ms."""
    with calling(library, calls, threads) as caller, watching("-t", "100ms", variables=variables) as tool:
        wait_for_probes(tool, library)
        caller.begin()
        caller.wait()
        return tool.stop(), caller.pid


def assert_exact(result: Result, pid: int, functions: Sequence[str], calls: int, threads: int) -> None:
    """Calls and elements of each function and datatype, bytes, results: all are what was called."""
    wanted = expected(functions, calls, threads)
    assert result.code == 0
    assert seen(result, pid) == wanted
    found = operations(result.records, pid)
    for operation in found:
        size = SIZES[DATATYPES.index(operation["datatype"])] * operation["elements"]
        # nobody told the size of the communicator, which is null
        per_rank = operation["function"] in PER_RANK and operation["elements"]
        assert operation["requested_bytes"] == (None if per_rank else size)
    assert total(found, "returned") == sum(operation["errors"].get(INVALID, 0) for operation in found)
    assert total(found, "returned") == calls * threads
    intervals = of_type(result.records, "nccl")
    assert sum(record["calls"] for record in intervals) == calls * threads
    assert sum(record["unattributed_calls"] for record in intervals) == 0
    # every ncclBcast called ncclBroadcast
    bcasts = sum(count for (function, _), (count, _) in wanted.items() if function == "Bcast")
    assert sum(record["nested_calls"] for record in intervals) == bcasts


def test_a_hundred_thousand_calls_of_the_real_library_are_exact(real: Path, way: dict[str, str]) -> None:
    result, pid = watched(real, CALLS, 1, way)
    assert_exact(result, pid, REAL_FUNCTIONS, CALLS, 1)
    busy = [record for record in of_type(result.records, "nccl") if record["calls"]]
    assert len(busy) > 2, "the calls were to be spread over several drains"


def test_threads_on_all_cpus_lose_no_call(way: dict[str, str]) -> None:
    result, pid = watched(standin(), 5_000, 8, way)
    assert_exact(result, pid, STANDIN_FUNCTIONS, 5_000, 8)


def test_calls_of_functions_that_begin_with_a_landing_pad_are_exact_and_not_dear(way: dict[str, str]) -> None:
    library = native(GUARDED)
    result, pid = watched(library, CALLS, 1, way)
    assert_exact(result, pid, STANDIN_FUNCTIONS, CALLS, 1)
    if platform.machine() != "x86_64":
        return  # what is dear is known of x86-64 alone
    offsets = find_functions(str(library))
    cheap, dear = find_cheap(str(library), offsets)
    assert not set(dear) & {f"nccl{name}" for name in STANDIN_FUNCTIONS}
    assert all(cheap[number] > offsets[number] for number in offsets if FUNCTIONS[number] in STANDIN_FUNCTIONS)


def test_processes_are_told_apart() -> None:
    with calling(standin(), 1_100) as one, calling(standin(), 2_200) as other, watching("-t", "100ms") as tool:
        wait_for_probes(tool)
        for caller in (one, other):
            caller.begin()
        for caller in (one, other):
            caller.wait()
        result = tool.stop()
        assert seen(result, one.pid) == expected(STANDIN_FUNCTIONS, 1_100)
        assert seen(result, other.pid) == expected(STANDIN_FUNCTIONS, 2_200)


def test_two_copies_of_the_library_in_two_processes_are_both_counted(tmp_path: Path) -> None:
    copy = tmp_path / "libnccl.so.2"
    copy.write_bytes(standin().read_bytes())
    with calling(standin(), 1_100) as one, calling(copy, 2_200) as other, watching("-t", "100ms") as tool:
        wait_for_probes(tool, copy, standin())
        for caller in (one, other):
            caller.begin()
            caller.wait()
        result = tool.stop()
        assert seen(result, one.pid) == expected(STANDIN_FUNCTIONS, 1_100)
        assert seen(result, other.pid) == expected(STANDIN_FUNCTIONS, 2_200)


def summed(records: Sequence[dict[str, Any]], pid: int, function: str) -> dict[str, Any]:
    """The one operation of that name that was called or returned."""
    (found,) = [operation for operation in operations(records, pid) if operation["function"] == function]
    return found


def test_an_unknown_datatype_is_said_and_its_bytes_are_not_made_up() -> None:
    with job() as process, watching("-t", "200ms") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 2, 0)
        process.do("AllReduce", "world", 10, 12)
        process.do("AllReduce", "world", 10, 255)
        result = tool.stop()
    unknown = [operation for operation in operations(result.records, process.pid) if operation["datatype"] == "unknown"]
    assert total(unknown, "calls") == 2
    assert total(unknown, "elements") == 20
    assert {operation["requested_bytes"] for operation in unknown if operation["calls"]} == {None}


@pytest.mark.parametrize("count", [(1 << 64) - 1, 1 << 63, 1 << 62])
def test_senseless_counts_end_nothing_and_no_bytes_are_made_up(count: int) -> None:
    with job() as process, watching("-t", "1h") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 4, 3)
        for function in ("AllReduce", "AllGather"):
            for _ in range(3):
                process.do(function, "world", count, DATATYPES.index("float64"))
        result = tool.stop()
    assert result.code == 0
    for function in ("AllReduce", "AllGather"):
        called = summed(result.records, process.pid, function)
        assert (called["calls"], called["elements"]) == (3, 3 * count % (1 << 64))
        if called["elements"]:
            assert called["requested_bytes"] is None


def test_bcast_is_one_call_and_broadcast_in_place_another() -> None:
    with job() as process, watching("-t", "1h") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 2, 0)
        process.do("Bcast", "world", 10, 7)
        process.do("Broadcast", "world", 10, 7)
        result = tool.stop()
    assert summed(result.records, process.pid, "Bcast")["calls"] == 1
    assert summed(result.records, process.pid, "Broadcast")["calls"] == 1
    (interval,) = of_type(result.records, "nccl")
    assert (interval["calls"], interval["nested_calls"]) == (3, 1)


def test_latency_is_that_of_the_call() -> None:
    with job({"STANDIN_DELAY_US": "20000"}) as process, watching("-t", "1h") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 2, 0)
        for _ in range(3):
            process.do("AllReduce", "world", 1, 7)
        result = tool.stop()
    reduced = summed(result.records, process.pid, "AllReduce")
    assert reduced["returned"] == 3
    assert reduced["latency_ns"] >= 3 * 20_000_000
    # every call slept 20 ms: no faster than 2^24 ns, 16.8 ms
    assert sum(bucket["calls"] for bucket in reduced["latency_buckets"]) == 3
    assert all(bucket["below_ns"] > 1 << 24 for bucket in reduced["latency_buckets"])


def test_a_call_belongs_to_the_interval_in_which_it_began() -> None:
    with job({"STANDIN_DELAY_US": "500000"}) as process, watching("-t", "100ms") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 2, 0)
        process.do("AllReduce", "world", 1, 7)
        result = tool.stop()
    reduced = [
        operation for operation in operations(result.records, process.pid) if operation["function"] == "AllReduce"
    ]
    assert [(operation["calls"], operation["returned"]) for operation in reduced] == [(1, 0), (0, 1)]


@pytest.mark.parametrize("function", STANDIN_FUNCTIONS)
def test_requested_bytes_are_those_of_all_ranks_where_the_count_is_one_ranks(function: str) -> None:
    with job() as process, watching("-t", "1h") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 4, 3)
        assert process.do(function, "world", 1000, DATATYPES.index("bfloat16"))[0] == 0
        result = tool.stop()
    called = summed(result.records, process.pid, function)
    assert called["datatype"] == "bfloat16"
    assert called["requested_bytes"] == 2000 * (4 if function in PER_RANK else 1)
    (communicator,) = of_process(of_type(result.records, "nccl_communicator"), process.pid)
    assert (communicator["nranks"], communicator["rank"]) == (4, 3)
