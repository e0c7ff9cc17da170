"""Where return probes would kill confined processes: the beginning of calls is counted, what is not known is null."""

from __future__ import annotations

from collections.abc import Mapping

from tests.nccl.jobs import STANDIN_FUNCTIONS, calling, expected, job, operations, standin, wait_for_probes, watching
from tests.nccl.test_counting import seen
from tests.support.net import of_type
from xtrace.kernel import uprobe
from xtrace.kernel.syscall import lib

CALLS = 5_000


def off(way: Mapping[str, str]) -> dict[str, str]:
    """The same way without return probes."""
    return {"XTRACE_FEATURES_OFF": ",".join([*way.values(), "uretprobe"])}


def test_a_confined_process_survives_here_without_a_probe() -> None:
    assert lib.xt_filtered_child() == 0


def test_this_kernel_is_tried_and_answers() -> None:
    uprobe.has_returns.cache_clear()
    assert uprobe.has_returns() in (True, False)


def test_calls_are_exact_without_return_probes(way: dict[str, str]) -> None:
    with calling(standin(), CALLS, 2) as caller, watching("-t", "100ms", variables=off(way)) as tool:
        wait_for_probes(tool)
        caller.begin()
        caller.wait()
        result = tool.stop()
    assert result.code == 0
    assert b"only the beginning of calls is seen" in result.stderr
    assert seen(result, caller.pid) == expected(STANDIN_FUNCTIONS, CALLS, 2)
    found = operations(result.records, caller.pid)
    for field in ("returned", "errors", "async_errors", "in_progress", "latency_ns", "latency_buckets"):
        assert {operation[field] for operation in found} == {None}
    (start,) = of_type(result.records, "start")
    assert start["nccl"]["returns"] is False


def test_broadcast_in_place_after_bcast_is_a_call_of_its_own() -> None:
    with job() as process, watching(variables=off({})) as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 8, 5)
        process.do("Bcast", "world", 1000, 7)
        process.do("Broadcast", "world", 1000, 7)
        result = tool.stop()
    found = {operation["function"]: operation["calls"] for operation in operations(result.records, process.pid)}
    assert (found["Bcast"], found["Broadcast"]) == (1, 1)
    for rank in of_type(result.records, "nccl_rank"):
        assert (rank["returned"], rank["open"], rank["open_known"]) == (None, None, False)
    assert of_type(result.records, "verdict") == []
