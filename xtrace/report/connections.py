"""Sums of --tcp and --tcp-packets: what all sockets, and all connections, did, and those that suffered most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from xtrace.printable import with_port
from xtrace.report.interfaces import MOST_INTERFACES, Record, text, whole
from xtrace.report.jobs import HEALTH, MOST_FAILURES, MOST_REASONS
from xtrace.report.sums import Largest

FOLLOWED = (
    *("packets", "began", "refused", "resets", "data_packets", "retransmitted_packets", "late_packets"),
    *("untold_packets", "window_closed_ms", "no_room_packets", "unread_packets", "second_pass_packets"),
)
COUNTERS = ("began", "ended", "segments_sent", "retransmitted_packets", "retrans_segs", "unseen")


class Connection(NamedTuple):
    """Both ends: this host's, or the one that opened it, first."""

    host: str
    one: str
    other: str


@dataclass
class Ills:
    """What was wrong with a connection."""

    intervals: int = 0
    worst: str = "ok"
    reasons: list[str] = field(default_factory=list)


@dataclass
class Sockets:
    """All sockets of a network namespace. A sum of None: nothing was known."""

    sums: dict[str, int | None] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """sums that lack intervals without a value"""
    failures: dict[tuple[str, str], int] = field(default_factory=dict)
    """by what failed and its reason"""


class Sufferers:
    """Connections by what they sent again and by their verdicts. Bounded."""

    def __init__(self) -> None:
        self.resent: Largest[Connection] = Largest()
        """`packets`: packets sent; `bytes`, by which it is ordered: packets sent again"""
        self.ills: dict[Connection, Ills] = {}
        """the first connections with reasons"""

    def add(self, connection: Connection, record: Record, sent: int, resent: int) -> None:
        """Add what a record says of a connection."""
        health, reasons = record["health"], [text(reason) for reason in record["reasons"]]
        if health not in HEALTH:
            raise ValueError(f"health {health!r}")
        if resent:
            self.resent.add(connection, sent, resent)
        if not reasons or (connection not in self.ills and len(self.ills) >= MOST_FAILURES):
            return
        ills = self.ills.setdefault(connection, Ills())
        ills.intervals += 1
        ills.worst = max(ills.worst, health, key=HEALTH.index)
        _note(ills.reasons, reasons)


class TcpSums:
    """All connections, by their sockets."""

    def __init__(self) -> None:
        self.sockets: dict[tuple[str, str], Sockets] = {}
        """by host and namespace"""
        self.connections = Sufferers()

    def add_connection(self, record: Record) -> None:
        """Add a tcp_connection record."""
        resent, sent = (whole(record[name] or 0) for name in ("retransmitted_packets", "segments_sent"))
        ends = (_end(record, side) for side in ("local", "remote"))
        self.connections.add(Connection(text(record["host"]), *ends), record, sent, resent)

    def add_sockets(self, record: Record) -> None:
        """Add a tcp record."""
        name = text(record["host"]), str(record["netns"])
        if name not in self.sockets and len(self.sockets) >= MOST_FAILURES:
            return
        sockets = self.sockets.setdefault(name, Sockets())
        for counter in COUNTERS:
            value = record[counter]
            if not isinstance(value, int):
                sockets.sums.setdefault(counter, None)
                sockets.unknown.add(counter)
            else:  # unseen may be negative
                sockets.sums[counter] = (sockets.sums.get(counter) or 0) + value
        for what in ("failed_connects", "broken_connections"):
            for reason, times in record[what].items():
                key = what.replace("_", " "), text(reason)
                if key in sockets.failures or len(sockets.failures) < MOST_FAILURES:
                    sockets.failures[key] = sockets.failures.get(key, 0) + whole(times)


@dataclass
class Followed:
    """All connections that passed an interface."""

    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FOLLOWED, 0))
    intervals: int = 0
    ill: int = 0
    """intervals with a verdict on the interface"""
    reasons: list[str] = field(default_factory=list)


class FollowedSums:
    """All connections, by their packets."""

    def __init__(self) -> None:
        self.interfaces: dict[tuple[str, str], Followed] = {}
        """by host and interface"""
        self.connections = Sufferers()
        """whose `host` has the interface, too: each follows them apart"""

    def add_connection(self, record: Record) -> None:
        """Add a tcp_path record."""
        ways = [record[way] for way in ("forward", "reverse") if record[way] is not None]
        sent, resent = (sum(whole(way[name]) for way in ways) for name in ("data_packets", "retransmitted_packets"))
        place = f"{text(record['host'])} {text(record['interface'])}"
        self.connections.add(Connection(place, *(_end(record, side) for side in ("src", "dst"))), record, sent, resent)

    def add_interface(self, record: Record) -> None:
        """Add a tcp_paths record."""
        name = text(record["host"]), text(record["interface"])
        if name not in self.interfaces and len(self.interfaces) >= MOST_INTERFACES:
            return
        grown = {counter: whole(record[counter]) for counter in FOLLOWED}
        reasons = [text(reason) for reason in record["reasons"]]
        followed = self.interfaces.setdefault(name, Followed())
        followed.intervals += 1
        followed.ill += bool(reasons)
        _note(followed.reasons, reasons)
        for counter, value in grown.items():
            followed.sums[counter] += value


def _end(record: Record, side: str) -> str:
    """Return an address and its port."""
    return with_port(text(record[f"{side}_ip"]), record[f"{side}_port"])


def _note(known: list[str], reasons: list[str]) -> None:
    """Add those that are new, as far as there is room."""
    known += [reason for reason in reasons if reason not in known][: MOST_REASONS - len(known)]
