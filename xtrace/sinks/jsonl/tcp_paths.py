"""TCP connections followed by their packets as JSON records: one per connection, one per interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from xtrace.model.tcp_health import quantile, worst
from xtrace.model.tcp_path import COUNTERS, PathSetup, PathSnapshot, PathSums, TcpPath, Way, way_counters
from xtrace.sinks.jsonl.lines import rendered
from xtrace.sinks.jsonl.tcp import MOST_CONNECTIONS
from xtrace.sinks.kinds import JsonOptions, Record
from xtrace.sinks.render import address, timestamp, valid_unicode

SHOWN = tuple(name for name in COUNTERS if name != "closed_ticks")
"""Counters that are fields by their own name."""


class PathJson:
    """Renders records of type tcp_path and tcp_paths."""

    def __init__(self, options: JsonOptions) -> None:
        self._identity = options.identity
        self._most = min(options.top or MOST_CONNECTIONS, MOST_CONNECTIONS)

    def setup(self, setup: PathSetup) -> Record:
        """Return room and memory."""
        return {"tcp_packets": {"max_connections": setup.most, "map_memory_bytes": setup.map_memory}}

    def lines(self, snapshot: PathSnapshot) -> Iterator[bytes]:
        """Yield all records of one interval."""
        return rendered(self._records(snapshot))

    def totals(self, totals: object) -> Record:
        """Nothing: there are no totals."""
        return {}

    def _records(self, snapshot: PathSnapshot) -> Iterator[Record]:
        common = {
            "ts": timestamp(snapshot.end_ns),
            "interval_s": round(snapshot.interval_ns / 1e9, 3),
            **self._identity,
        }
        shown = worst(snapshot.paths, self._most)
        for path in shown:
            yield path_record(path, snapshot.tick_ns, common)
        missing = Counter(path.place for path in snapshot.paths)
        missing.subtract(path.place for path in shown)
        for sums in snapshot.sums:
            yield sums_record(sums, snapshot.tick_ns, common, missing[sums.place])


def path_record(path: TcpPath, tick_ns: int, common: Record) -> Record:
    """Return the record of one connection in one interval."""
    return {
        "type": "tcp_path",
        **common,
        "interface": valid_unicode(path.interface),
        **({"vlan": path.vlan_id} if path.vlan_id else {}),
        "src_ip": address(path.src),
        "src_port": path.src_port,
        "dst_ip": address(path.dst),
        "dst_port": path.dst_port,
        "opener_known": path.is_opener_known,
        "began": path.opened,
        "refused": path.refused,
        "unanswered_syns": path.unanswered,
        "ended": path.has_ended,
        "client_rtt_us": _us(path.client_ns),
        "server_rtt_us": _us(path.server_ns),
        "health": path.health,
        "reasons": list(path.reasons),
        "forward": _way_record(path.forward, tick_ns),
        "reverse": _way_record(path.reverse, tick_ns),
    }


def sums_record(sums: PathSums, tick_ns: int, common: Record, not_shown: int) -> Record:
    """Return the record of all connections of an interface."""
    return {
        "type": "tcp_paths",
        **common,
        "interface": valid_unicode(sums.interface),
        "connections": sums.connections,
        "began": sums.opened,
        "refused": sums.refused,
        **_counted(sums.counters, tick_ns),
        "client_rtt_us": _quantiles(sums.client_ns),
        "server_rtt_us": _quantiles(sums.server_ns),
        "no_room_packets": sums.missed.no_room,
        "unread_packets": sums.missed.unread,
        "second_pass_packets": sums.missed.second_pass,
        "health": sums.health,
        "reasons": list(sums.reasons),
        "not_shown": not_shown,
    }


def _way_record(way: Way | None, tick_ns: int) -> Record | None:
    if way is None:
        return None
    counted = _counted(way_counters(way), tick_ns)
    return {"direction": way.direction, **counted, "window_closed": way.is_closed}


def _counted(counters: Sequence[int], tick_ns: int) -> Record:
    values = dict(zip(COUNTERS, counters, strict=True))
    return {**{name: values[name] for name in SHOWN}, "window_closed_ms": values["closed_ticks"] * tick_ns // 1_000_000}


def _us(ns: int | None) -> float | None:
    return None if ns is None else ns / 1000


def _quantiles(ordered: Sequence[int]) -> Record:
    return {name: _us(quantile(ordered, part)) for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
