"""Sums of --tcp: per network namespace what all sockets did, and the connections that suffered most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from xtrace.report.interfaces import Record, text, whole
from xtrace.report.jobs import HEALTH, MOST_FAILURES, MOST_REASONS
from xtrace.report.sums import Largest

COUNTERS = ("began", "ended", "segments_sent", "retransmitted_packets", "retrans_segs", "unseen")


class Connection(NamedTuple):
    """Both ends, this host's first."""

    host: str
    local: str
    remote: str


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


class TcpSums:
    """All connections."""

    def __init__(self) -> None:
        self.sockets: dict[tuple[str, str], Sockets] = {}
        """by host and namespace"""
        self.resent: Largest[Connection] = Largest()
        """`packets`: segments sent; `bytes`, by which it is ordered: packets sent again"""
        self.ills: dict[Connection, Ills] = {}
        """the first connections with reasons"""

    def add_connection(self, record: Record) -> None:
        """Add a tcp_connection record."""
        ends = [
            f"[{record[f'{side}_ip']}]:{record[f'{side}_port']}"
            if ":" in text(record[f"{side}_ip"])
            else f"{record[f'{side}_ip']}:{record[f'{side}_port']}"
            for side in ("local", "remote")
        ]
        connection = Connection(text(record["host"]), *ends)
        health, reasons = record["health"], [text(reason) for reason in record["reasons"]]
        if health not in HEALTH:
            raise ValueError(f"health {health!r}")
        resent, sent = (whole(record[name] or 0) for name in ("retransmitted_packets", "segments_sent"))
        if resent:
            self.resent.add(connection, sent, resent)
        if not reasons or (connection not in self.ills and len(self.ills) >= MOST_FAILURES):
            return
        ills = self.ills.setdefault(connection, Ills())
        ills.intervals += 1
        ills.worst = max(ills.worst, health, key=HEALTH.index)
        ills.reasons += [reason for reason in reasons if reason not in ills.reasons][: MOST_REASONS - len(ills.reasons)]

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
