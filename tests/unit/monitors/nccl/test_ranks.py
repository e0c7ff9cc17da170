"""Ranks that leave their communicator are named, whenever they do it."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from xtrace.kernel.syscall import lib
from xtrace.model.nccl import State
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.ranks import RankReader

HERE = os.getpid(), 0x1000
NUMBERS = dict.fromkeys(State._fields, 0)


def state(**fields: int) -> State:
    given: dict[str, Any] = {**NUMBERS, "marks": (), "id": 0xABC, "nranks": 2, "rank": 1, "is_whole": 1, **fields}
    return State(**given)


ENDED = state(ended_by=lib.NCCL_COMM_DESTROY)


class Tables:
    """What the kernel side has."""

    has_returns = True

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], State] = {}
        self.departed: dict[tuple[int, int], State] = {}

    def running(self) -> dict[Any, Any]:
        return {}

    def peers(self) -> dict[Any, Any]:
        return {}

    def states(self) -> dict[tuple[int, int], State]:
        return dict(self.known)

    def take_departed(self) -> dict[tuple[int, int], State]:
        found, self.departed = self.departed, {}
        return found


@pytest.fixture
def tables() -> Tables:
    return Tables()


def told(tables: Tables, reader: RankReader) -> list[tuple[str | None, int, int | None]]:
    """Of each rank, by what it has left, its calls and its number."""
    return [(rank.left, rank.begun, rank.rank) for rank in reader.ranks(reader.see(), {}, {})]


def reader_of(tables: Tables) -> RankReader:
    return RankReader(cast("CallTables", tables), "h")


def test_a_rank_that_leaves_between_two_ticks_is_remembered(tables: Tables) -> None:
    reader = reader_of(tables)
    tables.known = {HERE: state(begun=7)}
    assert told(tables, reader) == [(None, 7, 1)]
    tables.known, tables.departed = {}, {HERE: ENDED._replace(begun=8)}
    assert [told(tables, reader) for _ in range(2)] == [[("CommDestroy", 8, 1)]] * 2


def test_a_rank_that_leaves_while_the_tables_are_read_is_remembered(tables: Tables) -> None:
    """It is in both then."""
    reader = reader_of(tables)
    tables.known, tables.departed = {HERE: state(begun=7)}, {HERE: ENDED._replace(begun=7)}
    assert told(tables, reader) == [("CommDestroy", 7, 1)]
    tables.known = {}
    assert told(tables, reader) == [("CommDestroy", 7, 1)]


def test_another_communicator_at_the_address_of_one_that_was_left_is_there(tables: Tables) -> None:
    reader = reader_of(tables)
    tables.known, tables.departed = {HERE: state(id=0xDEF, rank=0)}, {HERE: ENDED}
    assert sorted(told(tables, reader), key=str) == [("CommDestroy", 0, 1), (None, 0, 0)]
