"""TCP connections: what the kernel knows of each, what happened in an interval, and the snapshot of all.

Byte layouts come from csrc/tcp.h through kernel/abi.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import sub
from typing import NamedTuple

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.model.words import Direction, Health, Word

COUNTERS = lib.TCP_BUFFER_LIMITED + 1
"""The first members of enum tcp_value only grow while a connection lives; the others are levels."""
ALL_COUNTERS = (1 << COUNTERS) - 1
"""Their bits in Sample.known."""

STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
}
"""net/tcp_states.h"""

CONGESTION_STATES = ("open", "disorder", "cwr", "recovery", "loss")
"""enum tcp_ca_state (uapi/linux/tcp.h)"""

NO_MIN_RTT = 0xFFFF_FFFF

SAMPLE = abi.layout(
    "struct tcp_sample",
    *("local", "remote", "local_port", "remote_port", "netns", "cookie", "activity", "known", "values"),
    *("congestion", "event", "state", "error", "uid"),
)
COOKIE_WORD = abi.offset("struct tcp_sample", "cookie") // abi.U64.size
ACTIVITY_WORD = abi.offset("struct tcp_sample", "activity") // abi.U64.size
SAMPLE_WORDS = SAMPLE.size // abi.U64.size
_VALUES = slice(8, 8 + lib.TCP_VALUES)
END_KEY = abi.layout("struct tcp_end_key", "socket", "at_ns")
END = abi.layout("struct tcp_end", "netns", "event", "state", "error", "congestion", "closer", "command", "raw")

Ends = tuple[bytes, int, bytes, int]
"""Local address and port, remote address and port; addresses of 16 bytes, IPv4 mapped."""


@lru_cache(maxsize=64)
def name_of(text: bytes) -> str:
    """Return the name of a congestion algorithm, up to its NUL."""
    return text.split(b"\0", 1)[0].decode(errors="replace")


class Sample(NamedTuple):
    """struct tcp_sample: one socket at one moment."""

    local: bytes
    remote: bytes
    local_port: int
    remote_port: int
    netns: int
    cookie: int
    known: int
    values: tuple[int, ...]
    congestion: str
    event: int
    state: int
    error: int
    uid: int

    @classmethod
    def unpack(cls, packed: memoryview | bytes, offset: int = 0) -> Sample:
        """Return the sample at `offset` bytes."""
        fields = SAMPLE.unpack_from(packed, offset)
        local, remote, local_port, remote_port, netns, cookie, _, known = fields[:8]
        congestion, event, state, error, uid = fields[_VALUES.stop :]
        ends = (local, remote, local_port, remote_port)
        return cls(*ends, netns, cookie, known, fields[_VALUES], name_of(congestion), event, state, error, uid)

    @property
    def ends(self) -> Ends:
        """By which packets are told to be of this connection."""
        return self.local, self.local_port, self.remote, self.remote_port

    def value(self, number: int) -> int | None:
        """Return a member of enum tcp_value; None: not known."""
        if not self.known >> number & 1:
            return None
        value = self.values[number]
        unmeasured = (number == lib.TCP_RTT and not value) or (number == lib.TCP_MIN_RTT and value == NO_MIN_RTT)
        return None if unmeasured else value


class Limited(Word):
    """What held the sender up for most of the time in which it could have sent."""

    APPLICATION = "application"
    """it had nothing to send"""
    NETWORK = "network"
    """its congestion window, or pacing"""
    RECEIVER = "receiver"
    """the remote side's window"""
    SEND_BUFFER = "send_buffer"


class Reason(Word):
    """Why a connection failed: it was not established, or ended by an error."""

    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    ABANDONED = "abandoned"
    """closed by this side before there was an answer"""
    ERROR = "error"


class Seen(NamedTuple):
    """What crossed an interface of one connection, in the interval of mode xdp."""

    interface: str
    direction: Direction
    packets: int
    bytes: int


class Closer(NamedTuple):
    """The process that closed a connection."""

    pid: int
    command: str
    """name of its thread"""


class Connection(NamedTuple):
    """One connection in one interval."""

    sample: Sample
    """as of the end of the interval"""
    is_new: bool
    """whether it began in this interval"""
    growth: tuple[int | None, ...]
    """of the COUNTERS in this interval; None: not known"""
    has_ended: bool = False
    error: int | None = None
    """the errno it ended with, if it did so by an error"""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()
    """why, the worst first"""
    seen: tuple[Seen, ...] = ()
    """on the monitored interfaces"""
    netns: int = 0
    """inode number of its network namespace"""
    is_local: bool = True
    """whether that is the tool's own"""
    closer: Closer | None = None
    """which process closed this side of one that has ended; None: nobody did, or it is not known"""

    @property
    def ends(self) -> Ends:
        """Addresses and ports."""
        return self.sample.ends

    @property
    def has_failed(self) -> bool:
        """Whether it ended before it was established."""
        return self.error is not None and self.sample.state == lib.TCP_STATE_SYN_SENT

    @property
    def badness(self) -> tuple[int, int, int]:
        """The worse the higher; of two alike the one that carried more."""
        carried = (self.growth[lib.TCP_BYTES_ACKED] or 0) + (self.growth[lib.TCP_BYTES_RECEIVED] or 0)
        return self.health.rank, self.growth[lib.TCP_RETRANSMITTED] or 0, carried

    def level(self, number: int) -> int | None:
        """Return a value as of the end of the interval; None: not known."""
        return self.sample.value(number)


def growth(now: Sample, before: Sample | None) -> tuple[int | None, ...]:
    """Return how much each of the COUNTERS grew. They start anew on a socket that is connected a second time."""
    values = now.values[:COUNTERS]
    if before is not None:
        differences = tuple(map(sub, values, before.values))
        values = differences if min(differences) >= 0 else tuple(map(_restarted, values, differences))
    known = now.known & (before.known if before else -1)
    if known & ALL_COUNTERS == ALL_COUNTERS:
        return values
    return tuple(value if known >> number & 1 else None for number, value in enumerate(values))


def _restarted(value: int, difference: int) -> int:
    return difference if difference >= 0 else value


class Failure(NamedTuple):
    """Connections to or from one remote address that failed alike in the interval."""

    remote: bytes
    port: int
    """of the remote side if this side connected, else of this side"""
    reason: Reason
    was_established: bool
    times: int


@dataclass(frozen=True)
class NamespaceSums:
    """All sockets of one network namespace in one interval."""

    netns: int
    """its inode number, as in /proc/PID/ns/net"""
    connections: int = 0
    """that live"""
    began: int = 0
    ended: int = 0
    sums: tuple[int, ...] = ()
    """growth of the COUNTERS over all sockets, those that ended included; empty: not known, as in the first interval"""
    retrans_segs: int | None = None
    """RetransSegs of /proc/net/snmp: what the kernel counted; None: not known, as in the first interval"""
    while_reading: int = 0
    """how much of that happened while sockets were read: it may be in this interval's sum or in the next one's"""
    lost_ends: int | None = None
    """sockets whose end found no room; None: ends are not seen"""
    failures: tuple[Failure, ...] = ()
    rtts: tuple[int, ...] = ()
    """smoothed RTT of each connection with traffic in the interval, us, sorted"""
    health: Health = Health.OK
    """by the failures"""
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    """what could not be read"""

    @property
    def retransmitted(self) -> int | None:
        """Packets that the sockets sent again; None where they could not be read."""
        return self.sums[lib.TCP_RETRANSMITTED] if self.sums else None

    @property
    def unseen(self) -> int | None:
        """Retransmissions that the kernel counted and no socket did, as those of requests that never got one."""
        if self.retrans_segs is None or self.retransmitted is None:
            return None
        return self.retrans_segs - self.retransmitted


@dataclass(frozen=True)
class TcpSetup(Setup):
    """How --tcp runs."""

    sees_ends: bool = False
    """whether sockets that end between two readings are seen"""


@dataclass(frozen=True)
class TcpSnapshot(Snapshot):
    """One reading of all sockets."""

    mode = "tcp"

    namespaces: tuple[NamespaceSums, ...] = ()
    connections: tuple[Connection, ...] = ()
    """those on which anything happened; with mode xdp those that crossed its interfaces"""
