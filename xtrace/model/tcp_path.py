"""TCP connections that are followed by their packets (--tcp-packets): what is kept of each, and what an interval did.

Byte layouts come from csrc/tcp_path.h through kernel/abi.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from xtrace.kernel import abi
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow import signed
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.model.tcp import Ends
from xtrace.model.words import Direction, Health

KEY = abi.layout("struct tcp_path_key", "low", "high", "low_port", "high_port", "ifindex", "vlan_id")
_LONG = (
    *("packets", "data_packets", "bytes", "retransmitted_packets", "retransmitted_bytes"),
    *("late_packets", "late_bytes", "untold_packets", "untold_bytes"),
)
_SHORT = (
    *("gaps", "probes", "duplicate_acks", "zero_windows", "closed_ticks", "syns", "repeated_syns", "fins", "resets"),
)
COUNTERS = (*_LONG, *_SHORT)
"""Members of struct tcp_way that only grow; the second part are 32 bits wide."""
_STATE = (
    *("next", "sure_from", "syn", "ack", "closed_since", "astray", "seen"),
    *("missing", "window", "flags", "hook"),
)
WAY = abi.layout("struct tcp_way", *COUNTERS, *_STATE)
_HEAD = (
    *("syn_ns", "answer_ns", "server_ns", "client_ns", "opened", "refused", "unanswered", "last"),
    *("opener", "handshake", "has_ended", "slot"),
)
PATH = abi.layout("struct tcp_path", *_HEAD, "ways")
PATH_OFFSET = abi.U64.size
"""The lock stands before it, in a map's value."""
VALUE_SIZE = PATH_OFFSET + PATH.size
LAST_WORD = (PATH_OFFSET + abi.offset("struct tcp_path", "last")) // abi.U32.size
"""Where the tick of the last packet stands in a value, in words of 32 bits."""
VALUE_WORDS = VALUE_SIZE // abi.U32.size
MISSED_NAMES = ("no_room", "unread", "second_pass", "uncounted")
MISSED = abi.layout("struct tcp_missed", *MISSED_NAMES)

_WAY_VALUES = len(WAY.unpack(bytes(WAY.size)))
_CLOSED_SINCE = len(COUNTERS) + _STATE.index("closed_since")
_MASK = (1 << 32) - 1
_CLOSED_TICKS = COUNTERS.index("closed_ticks")

NOTHING_COUNTED = (0,) * len(COUNTERS)


class Way(NamedTuple):
    """What one side sent in one interval. Packets are those on the wire, bytes those of payload."""

    direction: Direction
    """of these packets, at the interface"""
    is_closed: bool
    """whether the last window that it announced is 0"""
    packets: int = 0
    data_packets: int = 0
    bytes: int = 0
    retransmitted_packets: int = 0
    """that had been seen before"""
    retransmitted_bytes: int = 0
    late_packets: int = 0
    """that filled a gap which later ones had left"""
    late_bytes: int = 0
    untold_packets: int = 0
    """may be either"""
    untold_bytes: int = 0
    gaps: int = 0
    probes: int = 0
    duplicate_acks: int = 0
    zero_windows: int = 0
    closed_ticks: int = 0
    """how long the window that it announced was closed"""
    syns: int = 0
    repeated_syns: int = 0
    fins: int = 0
    resets: int = 0


class RawWay(NamedTuple):
    """One side as the program has it."""

    counters: tuple[int, ...]
    flags: int
    hook: int
    closed_since: int

    @classmethod
    def of(cls, values: tuple[int, ...]) -> RawWay:
        """From a way's values, as WAY unpacks them."""
        return cls(values[: len(COUNTERS)], values[-2], values[-1], values[_CLOSED_SINCE])

    @property
    def is_closed(self) -> bool:
        """Whether its window is."""
        return bool(self.flags & lib.TCP_WAY_CLOSED)

    def until(self, tick: int, before: int = 0) -> tuple[int, ...]:
        """The counters as of a tick: a window that is still closed has been so until then.

        `before`: the closed_ticks that were reported. It does not fall below: the packet that opened the window may
        have read its tick before the reading did.
        """
        closed = self.counters[_CLOSED_TICKS]
        if self.is_closed:
            closed = closed + max(signed(tick - self.closed_since), 0) & _MASK
        if signed(closed - before) < 0:
            closed = before
        if closed == self.counters[_CLOSED_TICKS]:
            return self.counters
        return (*self.counters[:_CLOSED_TICKS], closed, *self.counters[_CLOSED_TICKS + 1 :])


class RawPath(NamedTuple):
    """A connection as the program has it."""

    server_ns: int
    client_ns: int
    opened: int
    refused: int
    unanswered: int
    last: int
    opener: int
    has_reset: bool
    slot: int
    low: RawWay
    high: RawWay

    @classmethod
    def unpack(cls, value: memoryview | bytes, offset: int = 0) -> RawPath:
        """Return that of a map's value, which begins at `offset`."""
        values = PATH.unpack_from(value, offset + PATH_OFFSET)
        _, _, server_ns, client_ns, opened, refused, unanswered, last, opener, _, has_reset, slot = values[: len(_HEAD)]
        ways = values[len(_HEAD) :]
        low, high = RawWay.of(ways[:_WAY_VALUES]), RawWay.of(ways[_WAY_VALUES:])
        return cls(server_ns, client_ns, opened, refused, unanswered, last, opener, bool(has_reset), slot, low, high)

    @property
    def has_ended(self) -> bool:
        """Whether no more data can come: a reset, or both sides have said so."""
        return self.has_reset or bool(self.low.flags & self.high.flags & lib.TCP_WAY_HAS_FIN)


_KNOWN = struct.Struct(f"={2 * f'{len(_LONG)}Q{len(_SHORT)}I'}II??")
"""COUNTERS of either end, the lower first; connections that began, refused ones; which round trips are known."""

NOTHING_KNOWN = bytes(_KNOWN.size)
"""What of a connection is compared with the next reading: as bytes, for there may be very many."""


class TcpPath(NamedTuple):
    """One connection in one interval, at one interface."""

    key: bytes
    """of it, in the program's map"""
    slot: int
    ifindex: int
    vlan_id: int
    src: bytes
    """of the side that opened it; if that was not seen, the side that the program has first"""
    src_port: int
    dst: bytes
    dst_port: int
    is_opener_known: bool
    forward: Way | None
    """what src sent; None: no packet of it was ever seen here"""
    reverse: Way | None
    server_ns: int | None
    """round trip from here to dst, from SYN to SYN-ACK; None: not known"""
    client_ns: int | None
    """the same to src, from SYN-ACK to ACK"""
    is_server_new: bool = False
    """whether the round trip to dst became known in the interval"""
    is_client_new: bool = False
    opened: int = 0
    """connections that began in the interval, one after another"""
    refused: int = 0
    unanswered: int = 0
    """SYNs in a row without an answer, as of the end"""
    has_ended: bool = False
    interface: str = ""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()
    """why, the worst first"""

    @property
    def place(self) -> tuple[int, int]:
        """The interface that it passes: two may have the same slot, one after the other."""
        return self.slot, self.ifindex

    @property
    def ends(self) -> Ends:
        """Addresses and ports."""
        return self.src, self.src_port, self.dst, self.dst_port

    @property
    def ways(self) -> tuple[Way, ...]:
        """Both, as far as they were seen."""
        return tuple(way for way in (self.forward, self.reverse) if way)

    @property
    def rtt_ns(self) -> int | None:
        """Return the round trip of the whole handshake."""
        return None if self.server_ns is None or self.client_ns is None else self.server_ns + self.client_ns

    @property
    def badness(self) -> tuple[int, int, int]:
        """The worse the higher; of two alike the one that carried more."""
        again = sum(way.retransmitted_packets + way.late_packets for way in self.ways)
        return self.health.rank, again, sum(way.bytes for way in self.ways)


def grown(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    """How much the COUNTERS grew; those of 32 bits may have begun anew."""
    long = len(_LONG)
    wide = tuple(new - old for new, old in zip(now[:long], before[:long], strict=True))
    return wide + tuple(new - old & _MASK for new, old in zip(now[long:], before[long:], strict=True))


def _way(raw: RawWay, grew: tuple[int, ...]) -> Way | None:
    if not raw.hook:
        return None
    return Way(tuple(Direction)[raw.hook - 1], raw.is_closed, *grew)


def changed(key: bytes, raw: RawPath, known: bytes, tick: int) -> tuple[TcpPath | None, bytes]:
    """What happened on a connection since `known`, None if nothing did; and what to compare with the next time."""
    before = _KNOWN.unpack(known)
    count = len(COUNTERS)
    low_before, high_before = before[:count], before[count : 2 * count]
    opened_before, refused_before, had_server, had_client = before[2 * count :]
    low_now = raw.low.until(tick, low_before[_CLOSED_TICKS])
    high_now = raw.high.until(tick, high_before[_CLOSED_TICKS])
    now = _KNOWN.pack(*low_now, *high_now, raw.opened, raw.refused, raw.server_ns != 0, raw.client_ns != 0)
    if now == known:
        return None, known
    low_ip, high_ip, low_port, high_port, ifindex, vlan_id = KEY.unpack(key)
    low, high = _way(raw.low, grown(low_now, low_before)), _way(raw.high, grown(high_now, high_before))
    ends = (low_ip, low_port), (high_ip, high_port)
    ways = low, high
    if raw.opener == lib.TCP_OPENER_HIGH:
        ends, ways = ends[::-1], ways[::-1]
    began = raw.opened != opened_before  # which forgets the round trips of the connection before
    path = TcpPath(
        key,
        raw.slot,
        ifindex,
        vlan_id,
        *ends[0],
        *ends[1],
        raw.opener != 0,
        *ways,
        server_ns=raw.server_ns or None,
        client_ns=raw.client_ns or None,
        is_server_new=raw.server_ns != 0 and (began or not had_server),
        is_client_new=raw.client_ns != 0 and (began or not had_client),
        opened=raw.opened - opened_before & _MASK,
        refused=raw.refused - refused_before & _MASK,
        unanswered=raw.unanswered,
        has_ended=raw.has_ended,
    )
    return path, now


@dataclass(frozen=True)
class Missed:
    """Packets of TCP that are of no connection, in one interval."""

    no_room: int = 0
    """there was no room for their connection"""
    unread: int = 0
    """fragments, and headers that are cut short"""
    second_pass: int = 0
    """of a side whose packets were seen before, in the interface's other direction"""
    uncounted: int = 0
    """frames of any kind that the packet program did not get: the kernel refused the call"""

    @classmethod
    def of(cls, per_cpu: bytes) -> Missed:
        """The sum over CPUs."""
        return cls(*map(sum, zip(*MISSED.iter_unpack(per_cpu), strict=True)))

    def __sub__(self, other: Missed) -> Missed:
        return Missed(*(getattr(self, name) - getattr(other, name) for name in MISSED_NAMES))

    def __add__(self, other: Missed) -> Missed:
        return Missed(*(getattr(self, name) + getattr(other, name) for name in MISSED_NAMES))


NOTHING_MISSED = Missed()


@dataclass(frozen=True)
class PathSums:
    """All connections of one interface in one interval."""

    slot: int
    ifindex: int
    connections: int = 0
    """on which anything happened"""
    counters: tuple[int, ...] = NOTHING_COUNTED
    """growth of the COUNTERS over both sides of all"""
    opened: int = 0
    refused: int = 0
    missed: Missed = NOTHING_MISSED
    server_ns: tuple[int, ...] = ()
    """round trips of handshakes that became known in the interval, from the interface to the server, sorted"""
    client_ns: tuple[int, ...] = ()
    interface: str = ""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[int, int]:
        """Slot and ifindex."""
        return self.slot, self.ifindex

    def counted(self, name: str) -> int:
        """One of the COUNTERS."""
        return self.counters[COUNTERS.index(name)]


@dataclass(frozen=True)
class PathSetup(Setup):
    """How --tcp-packets runs."""

    most: int = 0
    """connections there is room for"""


@dataclass(frozen=True)
class PathSnapshot(Snapshot):
    """One reading of all connections."""

    mode = "tcp_packets"

    paths: tuple[TcpPath, ...] = ()
    """those on which anything happened"""
    sums: tuple[PathSums, ...] = ()
    """by interface"""
    missed: Mapping[int, Missed] = field(default_factory=dict)
    """by slot, as the program has it; in the sums once interfaces have names"""
    tick_ns: int = 1_000_000
    """unit of closed_ticks"""


def way_counters(way: Way) -> tuple[int, ...]:
    """Those of COUNTERS, in their order."""
    return cast("tuple[int, ...]", way[-len(COUNTERS) :])


assert ffi.sizeof("struct tcp_path_key") == KEY.size
assert len(Way._fields) == 2 + len(COUNTERS)
