"""Flows that NAT has translated are those of who has the same packets at a veth, or nobody's."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import pytest

from tests.unit.make import packed
from xtrace.errors import KernelError
from xtrace.kernel import conntrack
from xtrace.kernel.conntrack import Packet
from xtrace.kernel.syscall import lib
from xtrace.model.flow import EGRESS, ENTRY, FRAGMENT, FlowTable
from xtrace.model.flow_owners import OWNER
from xtrace.monitors.owners import translations
from xtrace.monitors.owners.translations import Translations

OUTER, VETH, OTHER_VETH = 0, 1, 2
CONTAINER, HOST, REMOTE = packed("172.17.0.2"), packed("192.0.2.1"), packed("198.51.100.9")
NAT = {Packet(REMOTE, HOST, 443, 61000, 6): Packet(REMOTE, CONTAINER, 443, 40000, 6)}
UNKNOWN, NOT_LOCAL, SOCKET = lib.OWNER_UNKNOWN, lib.OWNER_NOT_LOCAL, lib.OWNER_SOCKET
Row = tuple[int, int, bytes, int, bytes, int, int, int]
"""slot, flags, source and port, destination and port, kind and pid of the owner."""

ENTERS: Row = (OUTER, 0, REMOTE, 443, HOST, 61000, UNKNOWN, 0)
LEAVES: Row = (OUTER, EGRESS, HOST, 61000, REMOTE, 443, NOT_LOCAL, 0)
FROM_CONTAINER: Row = (VETH, 0, CONTAINER, 40000, REMOTE, 443, SOCKET, 77)
TO_CONTAINER: Row = (VETH, EGRESS, REMOTE, 443, CONTAINER, 40000, SOCKET, 77)


def table(rows: Iterable[Row]) -> FlowTable:
    entries, owners = bytearray(), bytearray()
    for slot, flags, src, src_port, dst, dst_port, kind, pid in rows:
        key = (src, dst, src_port, dst_port, 0, 0, 0x0800, slot, 6, 0, flags)
        entries += ENTRY.pack(*key, 1, 60 + src_port, 0, 0, 0, 0, 1, 0)
        owners += OWNER.pack(9 if pid else 0, pid, 0, b"curl", kind, lib.OWNER_CREATED)
    return FlowTable(memoryview(entries), len(entries) // ENTRY.size, memoryview(owners))


class Asked:
    """What was asked of netfilter."""

    def __init__(self, connections: Mapping[Packet, Packet]) -> None:
        self.connections = connections
        self.packets: list[Packet] = []
        self.error: KernelError | None = None

    def beyond(self, _: object, packet: Packet) -> Packet | None:
        self.packets.append(packet)
        if self.error:
            raise self.error
        return self.connections.get(packet)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    made = Asked(NAT)
    monkeypatch.setattr(conntrack, "tracks", lambda: True)
    monkeypatch.setattr(conntrack, "beyond", made.beyond)
    monkeypatch.setattr(translations, "NetlinkSocket", lambda protocol: nullcontext())
    return made


def named(rows: Iterable[Row], peers: set[int] | None = None, said: list[str] | None = None) -> list[tuple[Any, ...]]:
    """Kind and pid of the flows' owners afterwards."""
    flows = table(rows)
    Translations({VETH, OTHER_VETH} if peers is None else peers, (said if said is not None else []).append).name(flows)
    return [(owner[4], owner[1]) for owner in OWNER.iter_unpack(flows.owners)]


@pytest.mark.parametrize("inner", [FROM_CONTAINER, TO_CONTAINER])
def test_both_directions_have_the_owner_at_the_veth_whichever_was_seen_there(asked: Asked, inner: Row) -> None:
    assert named([ENTERS, LEAVES, inner]) == [(SOCKET, 77)] * 3
    assert asked.packets == list(NAT) * 2, "flows at veths were asked for"


def test_without_the_veth_s_flow_nobody_is_named(asked: Asked) -> None:
    assert named([ENTERS, LEAVES]) == [(UNKNOWN, 0), (NOT_LOCAL, 0)]


def test_a_flow_at_another_interface_with_the_same_addresses_is_not_believed(asked: Asked) -> None:
    assert named([ENTERS, (OUTER, *FROM_CONTAINER[1:])])[0] == (UNKNOWN, 0)


def test_the_other_end_of_the_connection_is_not_believed(asked: Asked) -> None:
    """At its own veth a flow has the owner of that end."""
    assert named([ENTERS, (VETH, EGRESS, *FROM_CONTAINER[2:])])[0] == (UNKNOWN, 0)


def test_of_two_containers_with_the_same_addresses_none_is_believed(asked: Asked) -> None:
    other = (OTHER_VETH, *FROM_CONTAINER[1:7], 78)
    assert named([ENTERS, FROM_CONTAINER, other])[0] == (UNKNOWN, 0)


def test_connections_that_are_not_translated_stay_nobody_s(asked: Asked) -> None:
    asked.connections = {packet: packet for packet in NAT}
    assert named([LEAVES, (VETH, 0, HOST, 61000, REMOTE, 443, SOCKET, 77)])[0] == (NOT_LOCAL, 0)


def test_fragments_are_not_asked_for(asked: Asked) -> None:
    assert named([(OUTER, FRAGMENT, *ENTERS[2:]), FROM_CONTAINER])[0] == (UNKNOWN, 0)
    assert asked.packets == []


def test_where_no_veth_is_watched_nothing_is_asked(asked: Asked) -> None:
    assert named([ENTERS, FROM_CONTAINER], set())[0] == (UNKNOWN, 0)
    assert asked.packets == []


def test_of_many_flows_the_largest_are_asked_for(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "MOST_ASKED", 2)
    named([(OUTER, 0, REMOTE, port, HOST, 61000, UNKNOWN, 0) for port in (5, 1, 9, 3)])
    assert sorted(packet.src_port for packet in asked.packets) == [5, 9]


@pytest.mark.parametrize("seed", range(20))
def test_flows_are_found_as_a_loop_over_all_of_them_finds_them(seed: int) -> None:
    chance = random.Random(seed)
    kinds, slots, ports = {UNKNOWN, NOT_LOCAL}, {0, 3, 255}, {5, 443, 65535}
    some = (0, 5, 443, 65535)

    def row() -> Row:
        kind = chance.choice((UNKNOWN, NOT_LOCAL, SOCKET, lib.OWNER_CGROUP))
        slot = chance.choice((0, 1, 3, 4, 255))
        return slot, chance.choice((0, EGRESS)), REMOTE, chance.choice(some), HOST, chance.choice(some), kind, 0

    rows = [row() for _ in range(200)]
    flows = table(rows)
    at = [index for index, row in enumerate(rows) if row[6] in kinds and row[0] in slots]
    assert list(flows.owned_as(kinds, slots)) == at
    assert list(flows.owned_as(kinds, slots, ports)) == [
        index for index in at if rows[index][3] in ports and rows[index][5] in ports
    ]


@pytest.mark.parametrize(
    "protocol, is_found", [(6, True), (17, True), (1, False), (58, False), (132, False), (0, False)]
)
def test_protocols_without_ports_are_not_found(protocol: int, is_found: bool) -> None:
    entries = ENTRY.pack(REMOTE, HOST, 443, 5, 0, 0, 0x0800, 0, protocol, 0, 0, 1, 60, 0, 0, 0, 0, 1, 0)
    owners = bytearray(OWNER.pack(0, 0, 0, b"", UNKNOWN, 0))
    flows = FlowTable(memoryview(bytearray(entries)), 1, memoryview(owners))
    assert len(flows.owned_as({UNKNOWN}, {0})) == is_found


def test_what_netfilter_refuses_is_told_once(asked: Asked) -> None:
    said: list[str] = []
    asked.error = KernelError("IPCTNL_MSG_CT_GET", errno.EPERM)
    naming = Translations({VETH}, said.append)
    for _ in range(2):
        naming.name(table([ENTERS, FROM_CONTAINER]))
    assert said == [
        "--owners: IPCTNL_MSG_CT_GET: EPERM (Operation not permitted): flows that NAT translates have no owners outside"
        " their veths"
    ]
    assert len(asked.packets) == 1


def test_what_failed_once_is_asked_again(asked: Asked) -> None:
    said: list[str] = []
    naming = Translations({VETH}, said.append)
    asked.error = KernelError("IPCTNL_MSG_CT_GET", errno.ENOBUFS)
    naming.name(table([ENTERS, FROM_CONTAINER]))
    asked.error = None
    flows = table([ENTERS, FROM_CONTAINER])
    naming.name(flows)
    assert [(owner[4], owner[1]) for owner in OWNER.iter_unpack(flows.owners)] == [(SOCKET, 77)] * 2
    assert said == []
