"""Connections joined to flows: by addresses, ports and direction, and where packets went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from tests.unit.make import ETH0, UDP, flow, key, snapshot
from tests.unit.make_tcp import connection
from tests.unit.make_tcp import snapshot as tcp_snapshot
from xtrace.kernel.syscall import lib
from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot, Interface, InterfaceCounts
from xtrace.model.tcp import Connection, TcpSnapshot
from xtrace.model.words import Direction
from xtrace.monitors import Monitor
from xtrace.monitors.joins import flows_tcp
from xtrace.monitors.joins.flows_tcp import JoinedTcp, KeptFlows
from xtrace.monitors.tcp.peers import Monitored

OUT = Interface("eth0", slot=0, direction=Direction.EGRESS)
LOCAL, REMOTE = "10.0.0.2", "10.0.0.1"


class Joined:
    """Both monitors, fed by the test."""

    def __init__(self) -> None:
        unused = cast("Monitor[FlowSnapshot]", None)
        self.monitored = Monitored()
        self.flows = KeptFlows(unused, self.monitored)
        self.tcp = JoinedTcp(cast("Monitor[TcpSnapshot]", None), self.flows)

    def pass_on(self, records: Sequence[FlowRecord], *connections: Connection) -> tuple[Connection, ...]:
        interfaces = ((ETH0, InterfaceCounts()), (OUT, InterfaceCounts()))
        self.flows.pass_on(snapshot(records, interfaces))
        return self.tcp.pass_on(tcp_snapshot(*connections)).connections


@pytest.fixture
def joined() -> Joined:
    return Joined()


SENT = flow(key(LOCAL, REMOTE, (40000, 443), flags=EGRESS), packets=10, size=1500)
RECEIVED = flow(key(REMOTE, LOCAL, (443, 40000)), packets=5, size=330)


def test_connection_has_its_packets_in_both_directions(joined: Joined) -> None:
    (found,) = joined.pass_on([SENT, RECEIVED], connection())
    assert set(found.seen) == {
        ("eth0", Direction.EGRESS, 10, 1500),
        ("eth0", Direction.INGRESS, 5, 330),
    }


@pytest.mark.parametrize("only", [SENT, RECEIVED])
def test_one_monitored_direction_is_enough(joined: Joined, only: FlowRecord) -> None:
    (found,) = joined.pass_on([only], connection())
    assert len(found.seen) == 1


@pytest.mark.parametrize(
    "other",
    [
        flow(key(LOCAL, REMOTE, (40000, 443))),
        flow(key(REMOTE, LOCAL, (443, 40000), flags=EGRESS)),
        flow(key(REMOTE, LOCAL, (443, 40000), UDP)),
        flow(key(REMOTE, LOCAL, (443, 40001))),
        flow(key(REMOTE, "10.0.0.3", (443, 40000))),
    ],
    ids=["sent but arriving", "received but leaving", "udp", "another port", "another address"],
)
def test_other_packets_are_not_those_of_the_connection(joined: Joined, other: FlowRecord) -> None:
    assert joined.pass_on([other], connection()) == ()


def test_connection_that_sent_nothing_in_an_interval_stays_one_of_the_interface(joined: Joined) -> None:
    joined.pass_on([SENT], connection())
    (stalled,) = joined.pass_on([], connection())
    assert stalled.seen == ()
    (ended,) = joined.pass_on([], connection(has_ended=True))
    assert ended.has_ended
    assert joined.pass_on([], connection()) == (), "its ends may be another connection's now"


def test_connection_that_began_just_after_the_interval_is_shown_with_the_next_one(joined: Joined) -> None:
    began = connection({lib.TCP_RETRANSMITTED: 2})._replace(is_new=True)
    assert joined.pass_on([], began) == ()
    (found,) = joined.pass_on([SENT], connection({lib.TCP_RETRANSMITTED: 3}))
    assert (found.is_new, found.growth[lib.TCP_RETRANSMITTED]) == (True, 5)
    (found,) = joined.pass_on([SENT], connection({lib.TCP_RETRANSMITTED: 3}))
    assert (found.is_new, found.growth[lib.TCP_RETRANSMITTED]) == (False, 3)


def test_connection_that_ended_just_after_the_interval_is_shown_with_the_next_one(joined: Joined) -> None:
    late = connection(has_ended=True)
    assert joined.pass_on([], late) == ()
    (found,) = joined.pass_on([SENT])
    assert (found.has_ended, len(found.seen)) == (True, 1)
    assert joined.pass_on([SENT]) == ()
    assert joined.pass_on([], late) == joined.pass_on([]) == joined.pass_on([SENT]) == (), "it is elsewhere"


def test_reading_that_comes_late_has_the_packets_of_all_intervals_since(joined: Joined) -> None:
    joined.flows.pass_on(snapshot([SENT, RECEIVED], ((ETH0, InterfaceCounts()), (OUT, InterfaceCounts()))))
    joined.tcp.missed()
    (found,) = joined.pass_on([SENT], connection(has_ended=True))
    assert set(found.seen) == {("eth0", Direction.EGRESS, 20, 3000), ("eth0", Direction.INGRESS, 5, 330)}
    (found,) = joined.pass_on([SENT], connection())
    assert found.seen == (("eth0", Direction.EGRESS, 10, 1500),)


def test_connection_that_ended_after_a_late_reading_finds_its_packets_with_the_next_one(joined: Joined) -> None:
    joined.tcp.missed()
    assert joined.pass_on([SENT]) == ()
    (found,) = joined.pass_on([], connection(has_ended=True))
    assert found.seen == (("eth0", Direction.EGRESS, 10, 1500),)
    assert joined.pass_on([SENT]) == ()
    assert joined.tcp._left == [], "kept only where a reading was late"


def test_end_of_a_connection_that_a_late_reading_did_not_have_yet_finds_the_packets_that_the_other_end_has(
    joined: Joined,
) -> None:
    server = connection(local=(REMOTE, 443), remote=(LOCAL, 40000), is_local=False)._replace(netns=8)
    joined.tcp.missed()
    (found,) = joined.pass_on([SENT], server)
    assert found.seen == (("eth0", Direction.EGRESS, 10, 1500),)
    both = joined.pass_on([], server, connection(has_ended=True))
    assert [each.seen for each in both] == [(), (("eth0", Direction.EGRESS, 10, 1500),)], "each has them once"


def test_memory_of_missed_intervals_is_bounded(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_tcp, "MOST_KNOWN", 3)
    for _ in range(5):
        joined.flows.pass_on(snapshot([RECEIVED, RECEIVED]))
        joined.tcp.missed()
    assert len(joined.tcp._crossed) == 3
    joined.pass_on([RECEIVED])
    assert (len(joined.tcp._crossed), len(joined.tcp._left)) == (0, 3)


def test_memory_of_known_connections_is_bounded(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_tcp, "MOST_KNOWN", 3)
    for port in range(1000, 1010):
        sent = flow(key(LOCAL, REMOTE, (port, 443), flags=EGRESS))
        joined.pass_on([sent], connection(local=(LOCAL, port)))
    assert len(joined.tcp._known) == 3


def test_without_an_interval_of_flows_no_connection_is_known_to_be_on_an_interface(joined: Joined) -> None:
    assert joined.tcp.pass_on(tcp_snapshot(connection())).connections == ()


def test_packets_of_a_socket_behind_a_veth_cross_it_the_other_way(joined: Joined) -> None:
    sent_by_container = flow(key(LOCAL, REMOTE, (40000, 443)), packets=10, size=1500)
    (found,) = joined.pass_on([sent_by_container], connection(is_local=False))
    assert found.seen == (("eth0", Direction.INGRESS, 10, 1500),)


def test_both_ends_of_a_connection_between_namespaces_have_its_packets(joined: Joined) -> None:
    other = connection(local=(REMOTE, 443), remote=(LOCAL, 40000), is_local=False)
    here, there = joined.pass_on([SENT], connection(), other)
    assert here.seen == there.seen == (("eth0", Direction.EGRESS, 10, 1500),)


def test_interfaces_are_told_to_whoever_looks_for_their_peers(joined: Joined) -> None:
    joined.pass_on([])
    assert joined.monitored.names == ("eth0",)
