"""RoCE traffic that mode xdp saw, as mode rdma is told of it, and whose it is."""

from __future__ import annotations

from typing import Any, cast

from tests.unit.make import counts_of, flow, roce, snapshot
from xtrace.model.flow import EGRESS, FlowSnapshot, Interface
from xtrace.model.rdma import PortId, Seen
from xtrace.model.words import Direction
from xtrace.monitors.joins import flows_rdma
from xtrace.monitors.joins.flows_rdma import JoinedXdp

IN, OUT = Direction.INGRESS, Direction.EGRESS


class Rdma:
    """In place of mode rdma."""

    reported_invisible = False

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ticks = 0

    def note_seen(self, seen: Any) -> None:
        self.seen.append(dict(seen))

    def queue_pairs_seen(self) -> set[Any]:
        return {"pairs"}

    def netdevs(self) -> dict[PortId, str]:
        return {PortId("mlx5_0", 1): "eth0"}

    def tick(self) -> None:
        self.ticks += 1


def interval() -> FlowSnapshot:
    """Two flows enter eth0 and one leaves it, one enters eth1; TCP and what no interface has do not count."""

    def of(number: int, slot: int = 0, egress: int = 0) -> Any:
        where = roce(dst_qpn=number, slot=slot)
        return flow(where._replace(flags=where.flags | egress), number, 100 * number)

    flows = [of(1), of(2), of(5, egress=EGRESS), of(7, slot=1), of(9, slot=2), flow(packets=1000)]
    watched = [Interface("eth0", 0), Interface("eth0", 0, direction=OUT), Interface("eth1", 1)]
    return snapshot(flows, [(each, counts_of([])) for each in watched])


SEEN = {("eth0", IN): Seen(3, 300), ("eth0", OUT): Seen(5, 500), ("eth1", IN): Seen(7, 700)}


def test_traffic_is_told_by_interface_and_direction_and_flows_can_be_looked_up(monkeypatch: Any) -> None:
    given: list[Any] = []

    class Origins:
        def __init__(self, *arguments: Any) -> None:
            given.extend(arguments)

        def find(self, *_: Any) -> str:
            return "found"

    monkeypatch.setattr(flows_rdma, "RoceOrigins", Origins)
    rdma = Rdma()
    passed = JoinedXdp(cast("Any", object()), cast("Any", rdma)).pass_on(interval())
    assert rdma.seen == [SEEN]
    pairs, netdevs, leaving = given
    assert (pairs, netdevs) == ({"pairs"}, {PortId("mlx5_0", 1): "eth0"})
    assert [record.packets for record in leaving] == [5]
    assert passed.find_origin is not None
    assert cast("Any", passed.find_origin)(None, None) == "found"


def test_readings_of_their_own_are_taken_until_it_was_told_what_is_invisible() -> None:
    rdma = Rdma()
    joined = JoinedXdp(cast("Any", object()), cast("Any", rdma), readings=cast("Any", rdma))
    shown = interval()
    assert joined.pass_on(shown) is shown
    rdma.reported_invisible = True
    joined.pass_on(shown)
    assert (rdma.ticks, rdma.seen) == (1, [SEEN, SEEN])
