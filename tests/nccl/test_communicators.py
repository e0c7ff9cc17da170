"""What is told of communicators: size, rank, device; from the calls that made them, or that asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.nccl.jobs import Job, job, of_process, operations, wait_for_probes, watching
from tests.support.net import of_type
from xtrace.kernel.syscall import lib
from xtrace.model.nccl_names import RESULTS

Facts = tuple[int | None, int | None, int | None]

Records = list[dict[str, Any]]


def facts(records: Records) -> dict[int, Facts]:
    """By address what the last record of each communicator says."""
    return {
        int(record["communicator"], 16): (record["nranks"], record["rank"], record["cuda_device"])
        for record in of_type(records, "nccl_communicator")
    }


def told(act: Callable[[Job], Any], **variables: str) -> tuple[Records, Any]:
    """The records of a run in which a job did this, and what `act` returned."""
    with job(variables=variables) as process, watching("-t", "1h") as tool:
        wait_for_probes(tool)
        returned = act(process)
        return of_process(tool.stop().records, process.pid), returned


@pytest.mark.parametrize("function", ["CommInitRank", "CommInitRankConfig", "CommInitRankScalable"])
def test_size_and_rank_are_those_it_was_made_with(function: str) -> None:
    records, (_, address) = told(lambda process: process.do(function, "world", 8, 5))
    assert facts(records) == {address: (8, 5, None)}


def test_a_communicator_that_is_being_made_is_no_error() -> None:
    records, (result, _) = told(lambda process: process.do("CommInitRankConfig", "world", 8, 5))
    assert result == 7
    (made,) = operations(records)
    assert (made["in_progress"], made["errors"]) == (1, {})


def test_a_communicator_that_was_refused_is_none() -> None:
    records, (result, _) = told(lambda process: process.do("CommInitRank", "world", 8, 8))
    assert result == 4
    assert facts(records) == {}
    (refused,) = operations(records)
    assert (refused["function"], refused["errors"]) == ("CommInitRank", {"invalid_argument": 1})
    (process,) = of_type(records, "nccl_process")
    assert process["errors"] == 1


@pytest.mark.parametrize("devices", [None, [3, 1, 2]])
def test_all_devices_of_a_process_are_told(devices: list[int] | None) -> None:
    records, _ = told(lambda process: process.do("CommInitAll", ["a", "b", "c"], devices))
    wanted = devices or [0, 1, 2]
    assert sorted(facts(records).values()) == sorted((3, rank, device) for rank, device in enumerate(wanted))
    (process,) = of_type(records, "nccl_process")
    assert process["cuda_devices"] == sorted(wanted)


def in_a_group(process: Job) -> dict[int, Facts]:
    """Make three communicators in an outer and an inner group, use them; what they are."""
    for _ in range(2):
        process.do("GroupStart")
    for rank in range(3):
        process.do("CommInitRank", f"c{rank}", 3, rank)
    for _ in range(2):
        process.do("GroupEnd")
    for rank in range(3):
        process.do("AllGather", f"c{rank}", 10, 7)
    return {process.do("address", f"c{rank}")[1]: (3, rank, None) for rank in range(3)}


@pytest.mark.parametrize("old", [False, True], ids=["address at once", "address at the group's end"])
def test_communicators_of_a_group_are_known_when_they_are_used(old: bool) -> None:
    records, wanted = told(in_a_group, **({"STANDIN_OLD": "1"} if old else {}))
    assert facts(records) == wanted
    gathered = [operation for operation in operations(records) if operation["function"] == "AllGather"]
    assert [operation["requested_bytes"] for operation in gathered] == [10 * 4 * 3] * 3
    groups = {o["function"]: o["calls"] for o in operations(records) if o["function"].startswith("Group")}
    assert groups == {"GroupStart": 2, "GroupEnd": 2}


def test_any_number_of_groups_may_make_communicators() -> None:
    """More than are remembered until their group ends."""
    groups = 2 * lib.NCCL_MOST_PENDING

    def act(process: Job) -> dict[int, Facts]:
        for rank in range(groups):
            process.do("GroupStart")
            process.do("CommInitRank", f"c{rank}", groups, rank)
            process.do("GroupEnd")
        return {process.do("address", f"c{rank}")[1]: (groups, rank, None) for rank in range(groups)}

    records, wanted = told(act, STANDIN_OLD="1")
    assert facts(records) == wanted


def test_calls_are_kept_by_the_powers_of_two_that_divide_their_numbers() -> None:
    """Of each power the latest, so that ranks far apart have one in common; the highest has all beyond it, too."""
    highest = 1 << 15

    def act(process: Job) -> None:
        process.do("CommInitRank", "world", 8, 5)
        process.do("repeat", 2 * highest, "AllReduce", "world", 10, 7)
        process.do("AllReduce", "world", 11, 7)

    records, _ = told(act)
    (rank,) = of_type(records, "nccl_rank")
    kept = [2 * highest - (1 << power) for power in range(14, 0, -1)]
    assert [call["number"] for call in rank["calls"]] == [*kept, 2 * highest, 2 * highest + 1]
    assert [call["count"] for call in rank["calls"]] == [10] * 15 + [11]


def test_sends_and_receives_are_counted_for_each_peer_with_the_times_of_the_last() -> None:
    def act(process: Job) -> None:
        process.do("CommInitRank", "world", 8, 5)
        for function in ("Send", "Send", "Recv"):
            process.do(function, "world", 10, 7)

    records, _ = told(act)
    (rank,) = of_type(records, "nccl_rank")
    (peer,) = rank["peers"]
    assert (peer["rank"], peer["sends"], peer["receives"]) == (0, 2, 1)
    assert of_type(records, "nccl_process")[0]["ts"] >= peer["last_receive"] >= peer["last_send"] > "2"


def test_a_split_ones_size_is_unknown_until_somebody_asks() -> None:
    def act(process: Job) -> tuple[int, int]:
        _, parent = process.do("CommInitRank", "world", 8, 5)
        _, child = process.do("CommSplit", "world", "half", 1, 2)
        process.do("AllGather", "half", 10, 7)
        return parent, child

    records, (parent, child) = told(act)
    assert facts(records) == {parent: (8, 5, None), child: (None, None, None)}
    (gathered,) = [operation for operation in operations(records) if operation["function"] == "AllGather"]
    assert gathered["requested_bytes"] is None

    def ask(process: Job) -> int:
        process.do("CommInitRank", "world", 8, 5)
        _, child = process.do("CommSplit", "world", "half", 1, 2)
        for question in ("CommCount", "CommUserRank", "CommCuDevice"):
            process.do(question, "half")
        process.do("AllGather", "half", 10, 7)
        return int(child)

    records, child = told(ask)
    assert facts(records)[child] == (4, 2, 5)
    (gathered,) = [operation for operation in operations(records) if operation["function"] == "AllGather"]
    assert gathered["requested_bytes"] == 10 * 4 * 4


def test_a_rank_that_is_in_no_part_gets_no_communicator() -> None:
    def act(process: Job) -> int:
        _, parent = process.do("CommInitRank", "world", 8, 5)
        process.do("CommSplit", "world", "none", -1, 0)
        return int(parent)

    records, parent = told(act)
    assert list(facts(records)) == [parent]


def test_one_made_of_another_without_some_ranks_has_as_many_less() -> None:
    def act(process: Job) -> list[int]:
        _, parent = process.do("CommInitRank", "world", 8, 5)
        children = [process.do("CommShrink", "world", f"less {number}", number)[1] for number in (1, 3)]
        process.do("CommCount", "less 3")
        process.do("CommUserRank", "less 3")
        return [parent, *children]

    records, (parent, less, asked) = told(act)
    assert facts(records) == {parent: (8, 5, None), less: (7, None, None), asked: (5, 5, None)}


def test_one_made_of_another_with_more_ranks_has_the_given_size_and_rank() -> None:
    def act(process: Job) -> list[int]:
        _, parent = process.do("CommInitRank", "world", 8, 5)
        _, kept = process.do("CommGrow", "world", "kept", 12, -1)
        _, joined = process.do("CommGrow", "", "joined", 12, 9)
        return [parent, kept, joined]

    records, (parent, kept, joined) = told(act)
    assert facts(records) == {parent: (8, 5, None), kept: (12, 5, None), joined: (12, 9, None)}


def test_one_that_was_there_before_the_tool_is_learnt_from_questions() -> None:
    with job() as process:
        _, address = process.do("CommInitRank", "world", 8, 5)
        with watching("-t", "1h") as tool:
            wait_for_probes(tool)
            process.do("AllGather", "world", 10, 7)
            process.do("CommCount", "world")
            records = of_process(tool.stop().records, process.pid)
    assert facts(records) == {address: (8, None, None)}
    (gathered,) = [operation for operation in operations(records) if operation["function"] == "AllGather"]
    assert gathered["requested_bytes"] == 10 * 4 * 8


@pytest.mark.parametrize("function", ["CommDestroy", "CommAbort"])
def test_its_end_ends_what_is_known(function: str) -> None:
    with job() as process, watching("-t", "300ms") as tool:
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 8, 5)
        process.do(function, "world")
        # malloc() gives the same memory again
        _, again = process.do("CommInitRank", "next", 2, 1)
        process.do("AllGather", "next", 10, 7)
        records = of_process(tool.stop().records, process.pid)
    ends = [record for record in of_type(records, "nccl_communicator") if record["communicator"] == f"{again:#x}"]
    assert (2, 1) in [(record["nranks"], record["rank"]) for record in ends]
    gathered = [operation for operation in operations(records) if operation["function"] == "AllGather"]
    assert sum(operation["requested_bytes"] for operation in gathered) == 10 * 4 * 2
    assert sum(operation["calls"] for operation in operations(records) if operation["function"] == function) == 1


def test_errors_that_a_communicator_is_told_to_have_are_counted_apart() -> None:
    def act(process: Job) -> None:
        process.do("CommInitRank", "world", 8, 5)
        for _ in range(3):
            process.do("CommGetAsyncError", "world")

    records, _ = told(act, STANDIN_ASYNC_ERROR="6")
    (process,) = of_type(records, "nccl_process")
    assert (process["errors"], process["async_errors"]) == (0, 3)
    asked = next(operation for operation in operations(records) if operation["function"] == "CommGetAsyncError")
    assert asked["async_errors"] == {"remote_error": 3}


def test_a_question_for_errors_that_itself_fails_tells_of_none() -> None:
    def act(process: Job) -> None:
        result, _ = process.do("CommGetAsyncError", "nobody")
        assert result == RESULTS.index("invalid_argument")

    records, _ = told(act, STANDIN_ASYNC_ERROR="6")
    (process,) = of_type(records, "nccl_process")
    assert (process["calls"], process["returned"], process["errors"], process["async_errors"]) == (1, 1, 0, 0)
