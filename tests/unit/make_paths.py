"""Connections followed by their packets, as the program keeps them."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from xtrace.kernel.syscall import lib
from xtrace.model.tcp_path import COUNTERS, KEY, PATH, PATH_OFFSET, WAY, PathSnapshot, PathSums, TcpPath, Way
from xtrace.model.words import Direction

IFINDEX = 7
LOW, HIGH = "10.0.0.1", "10.0.0.2"


def mapped(address: str) -> bytes:
    """An IPv4 address as keys have it."""
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def key(low_port: int = 40000, *, vlan_id: int = 0) -> bytes:
    """The key of a connection to port 443."""
    return KEY.pack(mapped(LOW), mapped(HIGH), low_port, 443, IFINDEX, vlan_id)


def way(*, flags: int = 0, hook: int = 1, closed_since: int = 0, **counters: int) -> tuple[int, ...]:
    """The values of struct tcp_way."""
    counted = tuple(counters.pop(name, 0) for name in COUNTERS)
    assert not counters
    return (*counted, 0, 0, 0, 0, closed_since, 0, 0, *(0,) * (2 * lib.TCP_GAPS), 0, flags, hook)


UNSEEN = way(hook=0)


def value(
    low: tuple[int, ...] = UNSEEN,
    high: tuple[int, ...] = UNSEEN,
    *,
    last: int = 0,
    opener: int = 0,
    slot: int = 0,
    has_ended: bool = False,
    head: Mapping[str, int] = {},
) -> bytes:
    """A value of the program's map."""
    names = ("syn_ns", "answer_ns", "server_ns", "client_ns", "opened", "refused", "unanswered")
    numbers = tuple(head.get(name, 0) for name in names)
    assert len(low) == len(WAY.unpack(bytes(WAY.size)))
    return bytes(PATH_OFFSET) + PATH.pack(*numbers, last, opener, 0, has_ended, slot, *low, *high)


def path(forward: Way | None = None, reverse: Way | None = None, **fields: object) -> TcpPath:
    """A connection in an interval."""
    made = TcpPath(key(), 0, IFINDEX, 0, mapped(LOW), 40000, mapped(HIGH), 443, True, forward, reverse, None, None)
    return made._replace(interface="eth0")._replace(**fields)  # type: ignore[arg-type]


def sent(direction: Direction = Direction.INGRESS, *, is_closed: bool = False, **counters: int) -> Way:
    """What a side sent."""
    return Way(direction, is_closed, **counters)


def sums(**counters: int) -> PathSums:
    """The sums of eth0."""
    return PathSums(0, IFINDEX, 2, tuple(counters.get(name, 0) for name in COUNTERS), interface="eth0")


def snapshot(*paths: TcpPath, of: tuple[PathSums, ...] = ()) -> PathSnapshot:
    """An interval of two seconds; a tick is 4 ms."""
    return PathSnapshot(1_700_000_000_000_000_000, 2_000_000_000, paths, of, tick_ns=4_000_000)
