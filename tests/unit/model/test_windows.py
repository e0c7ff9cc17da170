"""A table whose flows are at hand in pieces says the same as one that has all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.make import ETH0, Pieces, flow, key, pack_entry, roce, snapshot
from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot, FlowTable, Origin
from xtrace.model.flow_owners import OWNER, FlowOwner, How
from xtrace.model.words import Direction
from xtrace.sinks.jsonl.flows import flow_records

COUNT = 50


def some() -> list[FlowRecord]:
    """Flows of two interfaces, in both directions, some of RoCE; the size says nothing about where one stands."""
    keys = [roce(dst_qpn=n) if n % 5 == 0 else key(ports=(n, 443)) for n in range(COUNT)]
    placed = [each._replace(slot=n % 3 == 0, flags=each.flags | (n % 2 and EGRESS)) for n, each in enumerate(keys)]
    return [flow(each, packets=n + 1, size=1000 + n * 37 % COUNT) for n, each in enumerate(placed)]


@pytest.fixture(params=[1, 7, COUNT, COUNT + 1])
def lying(request: pytest.FixtureRequest) -> Pieces:
    entries = b"".join(map(pack_entry, some()))
    owners = b"".join(OWNER.pack(0, pid, 0, b"", 0, 0) for pid in range(COUNT))
    return Pieces(memoryview(entries), memoryview(owners), request.param)


QUESTIONS: dict[str, Callable[[FlowTable], Any]] = {
    "records": list,
    "keys": lambda table: [*table.packed_keys()],
    "RoCE": lambda table: [*table.roce()],
    "indexes": lambda table: [[*table.indexes(slot, way)] for slot in (0, 1, 2) for way in Direction],
    "sums": lambda table: [table.place(slot, way) for slot in (0, 1, 2) for way in Direction],
    "total": lambda table: (table.total(), table.sum(range(COUNT))),
    "sum of few": lambda table: table.sum([41, 3, 17]),
    "copies of few": lambda table: (lambda few: ([*few], bytes(few.owners)))(table.copied([41, 3, 17, 3])),
    "copy": lambda table: (bytes(table.copy().entries), bytes(table.copy().owners)),
}


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_answer_is_the_same_and_no_window_stays_open(ask: Callable[[FlowTable], Any], lying: Pieces) -> None:
    whole = FlowTable(lying._entries, COUNT, lying._owners)
    assert ask(FlowTable.where(lying, COUNT)) == ask(whole)
    assert not lying.open
    assert not lying.was_whole


def test_sums_are_those_of_the_flows() -> None:
    found = FlowTable(memoryview(b"".join(map(pack_entry, some()))), COUNT).place(1, Direction.EGRESS)
    flows = [record for record in some() if record.key.slot == 1 and record.key.flags & EGRESS]
    assert found == (len(flows), (sum(one.packets for one in flows), sum(one.bytes for one in flows)))


def test_iteration_that_is_given_up_closes_its_window(lying: Pieces) -> None:
    records = iter(FlowTable.where(lying, COUNT))
    next(records)
    assert lying.open == [0]
    del records
    assert not lying.open


def shown(table: FlowTable) -> FlowSnapshot:
    """With an owner and an origin of its own for each flow."""
    return replace(
        snapshot(),
        flows=table,
        name_owner=lambda packed: FlowOwner(How.CREATED, pid=OWNER.unpack(packed)[1]),
        find_origin=lambda _, where: Origin(where.dst_qpn, where.dst_qpn, "sends", None),
    )


@pytest.mark.parametrize(
    "chosen, all_at_hand",
    [
        (range(COUNT), False),
        (range(3, COUNT, 4), False),
        ([2, 30, 49], False),
        ([30, 2, 49], False),
        ([*reversed(range(COUNT))], True),
    ],
)
def test_lines_are_the_same_in_any_order(chosen: Sequence[int], all_at_hand: bool, lying: Pieces) -> None:
    def lines(table: FlowTable) -> bytes:
        return b"".join(flow_records(shown(table), ETH0, chosen, {"interface": "eth0"}))

    found = lines(FlowTable.where(lying, COUNT))
    assert found.count(b"\n") == len(chosen)
    assert found == lines(FlowTable(lying._entries, COUNT, lying._owners))
    assert lying.was_whole == all_at_hand
    assert not lying.open
