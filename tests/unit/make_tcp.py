"""TCP sockets and connections for tests, written as a user would say them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.make import BOOT, NS, packed
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.tcp import (
    COUNTERS,
    Connection,
    Failure,
    NamespaceSums,
    Reason,
    Sample,
    Seen,
    TcpSnapshot,
    growth,
)
from xtrace.model.words import Direction

INTERVAL_NS = 5 * NS


def packed_sample(
    cookie: int = 1,
    *,
    local: tuple[str, int] = ("10.0.0.2", 40000),
    remote: tuple[str, int] = ("10.0.0.1", 443),
    values: dict[int, int] | None = None,
    unknown: tuple[int, ...] = (),
    state: int = lib.TCP_STATE_ESTABLISHED,
    event: int = lib.TCP_DUMPED,
    error: int = 0,
    congestion: str = "cubic",
    netns: int = 0,
) -> bytes:
    """struct tcp_sample; all values but `unknown` are known, 0 unless given."""
    sample = ffi.new("struct tcp_sample *")
    sample.local, sample.remote = packed(local[0]), packed(remote[0])
    sample.local_port, sample.remote_port = local[1], remote[1]
    sample.cookie, sample.state, sample.event, sample.error, sample.netns = cookie, state, event, error, netns
    for number, value in (values or {}).items():
        sample.values[number] = value
    sample.known = sum(1 << number for number in range(lib.TCP_VALUES) if number not in unknown)
    sample.activity = hash((cookie, state, *sorted((values or {}).items()))) & 0xFFFF_FFFF_FFFF_FFFF
    sample.congestion = congestion.encode()
    return bytes(ffi.buffer(sample))


def sample(cookie: int = 1, **more: Any) -> Sample:
    return Sample.unpack(packed_sample(cookie, **more))


def connection(grown: dict[int, int] | None = None, levels: dict[int, int] | None = None, **more: Any) -> Connection:
    """A connection whose counters grew so in the interval, with these levels at its end."""
    own = ("has_ended", "error", "health", "reasons", "seen", "is_local")
    fields: dict[str, Any] = {"netns": 7, **{name: more.pop(name) for name in own if name in more}}
    before = sample(values=dict.fromkeys(range(COUNTERS), 1000), unknown=more.get("unknown", ()))
    values = {number: 1000 + (grown or {}).get(number, 0) for number in range(COUNTERS)}
    if fields.get("error") is not None:
        more["error"] = fields["error"]
    now = sample(values={**values, **(levels or {})}, **more)
    return Connection(now, False, growth(now, before), **fields)


def sums(**changes: Any) -> NamespaceSums:
    """A namespace with 812 connections, 12 packets sent again, and one refused connect."""
    grown = [0] * COUNTERS
    grown[lib.TCP_RETRANSMITTED], grown[lib.TCP_DATA_SENT] = 12, 1000
    usual = NamespaceSums(
        netns=7,
        connections=812,
        began=3,
        ended=2,
        sums=tuple(grown),
        retrans_segs=13,
        while_reading=1,
        lost_ends=0,
        failures=(Failure(packed("10.0.0.1"), 81, Reason.REFUSED, False, 3),),
        rtts=(200, 300, 1300),
    )
    return replace(usual, **changes)


def snapshot(*connections: Connection, **changes: Any) -> TcpSnapshot:
    usual = TcpSnapshot(
        end_ns=BOOT + INTERVAL_NS, interval_ns=INTERVAL_NS, namespaces=(sums(),), connections=tuple(connections)
    )
    return replace(usual, **changes)


SEEN = (Seen("eth0", Direction.EGRESS, 10, 1500), Seen("eth0", Direction.INGRESS, 5, 330))
