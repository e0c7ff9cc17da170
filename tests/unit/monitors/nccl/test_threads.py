"""Ranks that are threads of one process: each has only what its own thread does."""

from __future__ import annotations

import os
from typing import Any, cast

from tests.unit.monitors.nccl.test_ranks import Tables, state
from xtrace.kernel.syscall import lib
from xtrace.model.nccl import Frame, Running
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.ranks import RankReader

PID = os.getpid()
FIRST, SECOND = 0x1000, 0x2000
NOTHING = Running(**dict.fromkeys(Running._fields, 0))._replace(pid=PID)


def in_call(thread: int, function: int, communicator: int) -> tuple[Frame, Running]:
    call = NOTHING._replace(function=function, communicator=communicator, begin_ns=1, number=7)
    return Frame(PID << 32 | thread, 0, function), call


def found(*calls: tuple[Frame, Running], second_id: int = 0xABC) -> dict[int | None, Any]:
    """The open call of each rank."""
    tables = Tables()
    tables.known = {(PID, FIRST): state(rank=0), (PID, SECOND): state(rank=1, id=second_id)}
    reader = RankReader(cast("CallTables", tables), "h")
    seen = reader.see()._replace(running={PID: list(calls)})
    return {rank.rank: rank.open for rank in reader.ranks(seen, {}, {})}


def test_a_rank_is_not_in_the_call_of_another_one() -> None:
    calls = found(in_call(5, lib.NCCL_ALL_REDUCE, FIRST))
    assert (calls[0].thread, calls[0].is_other) == (5, False)
    assert calls[1] is None


def test_each_rank_is_in_its_own_call() -> None:
    calls = found(in_call(5, lib.NCCL_ALL_REDUCE, FIRST), in_call(6, lib.NCCL_BROADCAST, SECOND))
    assert [(calls[rank].thread, calls[rank].arguments.function) for rank in (0, 1)] == [
        (5, "AllReduce"),
        (6, "Broadcast"),
    ]


def test_a_call_on_another_communicator_or_on_none_may_be_any_rank_s() -> None:
    calls = found(in_call(5, lib.NCCL_ALL_REDUCE, FIRST), second_id=0xDEF)
    assert (calls[1].thread, calls[1].is_other) == (5, True)
    calls = found(in_call(5, lib.NCCL_ALL_REDUCE, FIRST), in_call(6, lib.NCCL_GROUP_END, 0))
    assert (calls[1].thread, calls[1].is_other, calls[1].arguments.function) == (6, True, "GroupEnd")
