"""TCP connections followed by their packets as text: those in trouble, and one line per interface."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from xtrace.model.tcp_health import troubled_first
from xtrace.model.tcp_path import PathSnapshot, PathSums, TcpPath
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.text.tcp import endpoint, milliseconds

MOST_PATHS = 10
"""Lines per interval, worst first."""
UNKNOWN = "-"


class PathText:
    """Renders what is wrong, and a line per interface."""

    def __init__(self, options: TextOptions) -> None:
        self._most = min(options.top or MOST_PATHS, MOST_PATHS)

    def lines(self, snapshot: PathSnapshot) -> Iterator[str]:
        """Yield all lines of one interval."""
        troubled, more = troubled_first(snapshot.paths, self._most)
        yield from (path_line(path) + "\n" for path in troubled)
        if more:
            yield f"tcp-packets and {more} more connections\n"
        clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
        for sums in snapshot.sums:
            yield f"tcp-packets {sums.interface} {clock} {snapshot.interval_ns / 1e9:.1f}s {sums_words(sums)}\n"

    def totals(self, totals: object) -> tuple[str, ...]:
        """Nothing: the health of a connection is that of an interval."""
        return ()


def path_line(path: TcpPath) -> str:
    """Return `tcp-packets eth0 10.0.0.1:40000 -> 10.0.0.2:443 rtt=0.1ms+20.3ms warn: -> 3.1 % retransmitted (...)`."""
    ends = f"{endpoint(path.src, path.src_port)} -> {endpoint(path.dst, path.dst_port)}"
    tag = f" vlan={path.vlan_id}" if path.vlan_id else ""
    rtt = round_trips(milliseconds(microseconds(path.client_ns)), milliseconds(microseconds(path.server_ns)))
    return f"tcp-packets {path.interface} {ends}{tag} rtt={rtt} {path.health}: {'; '.join(path.reasons)}"


def sums_words(sums: PathSums) -> str:
    """Return `connections=812 began=40 refused=1 resets=3 retransmitted=12 late=0 untold=0 rtt=0.1ms+20.3ms ok`."""
    missed = sums.missed
    lost = "".join(
        f" {name}={count}"
        for name, count in (("no_room", missed.no_room), ("unread", missed.unread), ("second_pass", missed.second_pass))
        if count
    )
    reasons = f": {'; '.join(sums.reasons)}" if sums.reasons else ""
    return (
        f"connections={sums.connections} began={sums.opened} refused={sums.refused} resets={sums.counted('resets')}"
        f" retransmitted={sums.counted('retransmitted_packets')} late={sums.counted('late_packets')}"
        f" untold={sums.counted('untold_packets')} rtt={round_trips(_median(sums.client_ns), _median(sums.server_ns))}"
        f"{lost} {sums.health}{reasons}"
    )


def round_trips(client: str, server: str) -> str:
    """Return both, or `-` if neither is known."""
    return client if client == server == UNKNOWN else f"{client}+{server}"


def microseconds(ns: int | None) -> int | None:
    """Return whole microseconds."""
    return None if ns is None else ns // 1000


def _median(ordered: Sequence[int]) -> str:
    return milliseconds(ordered[len(ordered) // 2] // 1000) if ordered else UNKNOWN
