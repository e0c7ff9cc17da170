"""Owners of flows: the one word by which a person knows them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.make import flow, key, table
from xtrace.kernel.syscall import lib
from xtrace.model.flow import EGRESS, FlowTable
from xtrace.model.flow_owners import OWNER, FlowOwner, How

ALL = FlowOwner(
    How.CREATED,
    pid=7,
    uid=1000,
    command="curl",
    cgroup="/user.slice",
    container="0123456789abcdef" * 4,
    container_name="web",
    pod="8e3f",
    pod_name="shop/web-0",
    unit="nginx.service",
)


@pytest.mark.parametrize(
    "unknown, name",
    [
        ((), "web"),
        (("container_name",), "shop/web-0"),
        (("container_name", "pod_name"), "0123456789ab"),
        (("container_name", "pod_name", "container"), "nginx.service"),
        (("container_name", "pod_name", "container", "unit"), "curl"),
        (("container_name", "pod_name", "container", "unit", "command"), "/user.slice"),
        (("container_name", "pod_name", "container", "unit", "command", "cgroup"), "created"),
    ],
)
def test_name_of_an_owner_is_the_most_telling_that_is_known(unknown: tuple[str, ...], name: str) -> None:
    """A container without a name has twelve digits of its id, as container engines show it."""
    fields: dict[str, Any] = dict.fromkeys(unknown)
    assert ALL._replace(**fields).name == name


def test_sums_of_owners_stand_by_slot_and_direction() -> None:
    """Two owners; at each place another number of flows, packets and bytes."""
    places = [(0, 0), (0, EGRESS), (3, 0), (3, EGRESS)]
    flows, pids = [], []
    for number, (slot, egress) in enumerate(places, 1):
        for port in range(number):
            flows.append(flow(key(ports=(port, 443), slot=slot, flags=egress), number, 100 * number))
            pids.append(7)
        flows.append(flow(key(ports=(99, 443), slot=slot, flags=egress), 1, 1))
        pids.append(8)
    owners = b"".join(OWNER.pack(0, pid, 0, b"", lib.OWNER_SOCKET, 0) for pid in pids)
    made = FlowTable(table(flows, room=0).entries, len(flows), memoryview(owners)).owner_rows()
    found = {
        place: [(OWNER.unpack(row.owner)[1], row.flows, row.packets, row.bytes) for row in rows]
        for place, rows in made.by_place.items()
    }
    assert found == {
        place: [(7, number, number**2, 100 * number**2), (8, 1, 1, 1)] for number, place in enumerate(places, 1)
    }
    assert [len(made.ranked), made.ranked.nobodies] == [2, 0]
    first, second = (made.ranked[rank].rows for rank in range(2))
    by_pid = {pid: bytes(owners[pids.index(pid) * OWNER.size :][: OWNER.size]) for pid in (7, 8)}
    assert [made.ranked.of(by_pid[pid]).rows for pid in (7, 8)] == [first, second]
    assert not made.ranked.of(OWNER.pack(0, 9, 0, b"", lib.OWNER_SOCKET, 0)).rows
    assert sorted((row.slot, row.egress, row.bytes) for row in first) == [
        (slot, egress, 100 * number**2) for number, (slot, egress) in enumerate(places, 1)
    ]
    assert sorted((row.slot, row.egress, row.bytes) for row in made.ranked.rest(1)) == sorted(
        (row.slot, row.egress, row.bytes) for row in second
    )
