"""Metrics of TCP connections followed by their packets: sums by interface, bounded whatever their number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from xtrace.model.flow_totals import MOST_TOTALS
from xtrace.model.snapshot import Setup
from xtrace.model.tcp_path import PathSnapshot, PathSums
from xtrace.model.words import Health
from xtrace.sinks.metrics.sample import Metric, Sample, Values
from xtrace.sinks.metrics.tcp import quantiles

COUNTED = {
    "xtrace_tcp_path_packets_total": ("packets", "packets", "TCP packets of the connections that are followed."),
    "xtrace_tcp_path_data_packets_total": (
        "data_packets",
        "packets",
        "TCP packets with payload of the connections that are followed.",
    ),
    "xtrace_tcp_path_retransmitted_packets_total": (
        "retransmitted_packets",
        "packets",
        "Packets whose payload, or end (FIN), had passed before.",
    ),
    "xtrace_tcp_path_late_packets_total": (
        "late_packets",
        "packets",
        "Packets that filled a gap which later ones had left: out of order, or lost before this point and sent again.",
    ),
    "xtrace_tcp_path_untold_packets_total": (
        "untold_packets",
        "packets",
        "Packets of which it cannot be told whether they were retransmitted or late.",
    ),
    "xtrace_tcp_path_zero_windows_total": ("zero_windows", "packets", "Packets that announced a window of 0."),
    "xtrace_tcp_path_resets_total": ("resets", "packets", "Packets that reset a connection."),
    "xtrace_tcp_path_repeated_syns_total": ("repeated_syns", "packets", "SYNs and SYN-ACKs sent again."),
}
"""Name -> counter, unit, description."""

OTHERS = {
    "xtrace_tcp_path_began_total": ("connections", "Connections that began by a SYN."),
    "xtrace_tcp_path_refused_total": ("connections", "Connections that a reset refused."),
    "xtrace_tcp_path_window_closed_seconds_total": (
        "seconds",
        "How long windows were closed, added up over both sides of all connections.",
    ),
    "xtrace_tcp_path_no_room_packets_total": ("packets", "TCP packets whose connection found no room."),
    "xtrace_tcp_path_unread_packets_total": ("packets", "TCP packets in fragments, or cut short."),
    "xtrace_tcp_path_second_pass_packets_total": (
        "packets",
        "TCP packets that had passed before, in the interface's other direction.",
    ),
}

CONNECTIONS, UNHEALTHY = "xtrace_tcp_path_connections", "xtrace_tcp_path_unhealthy_connections"
CLIENT_RTT, SERVER_RTT = "xtrace_tcp_path_client_rtt_seconds", "xtrace_tcp_path_server_rtt_seconds"

DESCRIBED = {
    CONNECTIONS: Metric("gauge", "connections", "TCP connections on which anything happened in the last interval."),
    UNHEALTHY: Metric("gauge", "connections", "TCP connections with a verdict in the last interval, by health."),
    **{name: Metric("counter", unit, text) for name, (_, unit, text) in COUNTED.items()},
    **{name: Metric("counter", unit, text) for name, (unit, text) in OTHERS.items()},
    **{
        name: Metric(
            "gauge",
            "seconds",
            f"Round trip from the interface to the {side}, of handshakes that ended in the last interval, by quantile;"
            " 1 is the longest.",
        )
        for name, side in ((CLIENT_RTT, "client"), (SERVER_RTT, "server"))
    },
}
"""In output order."""

COUNTERS = tuple(name for name, metric in DESCRIBED.items() if metric.kind == "counter")


class PathMetrics:
    """Sums since the run began, of the interfaces that are monitored."""

    described = DESCRIBED

    def __init__(self) -> None:
        self._sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._written: set[str] = set()
        """interfaces with samples of the last interval"""

    def own(self, setup: Setup | None) -> Values:
        """Return nothing: there are no figures of the tool itself."""
        return {}

    def samples(self, snapshot: PathSnapshot) -> Iterator[Sample]:
        """Add up one interval, and yield all samples of the interfaces that have sums of it."""
        last, self._written = self._written, set()
        unhealthy = Counter((path.place, path.health) for path in snapshot.paths)
        for name, group in self._by_name(snapshot).items():
            labels = (("interface", name),)
            total = self._sums[name]
            before = None if name in last else {counter: total[counter] for counter in COUNTERS}
            for sums in group:
                total.update(_grown(sums, snapshot.tick_ns))
            self._written.add(name)
            yield Sample(labels, {CONNECTIONS: sum(sums.connections for sums in group), **total}, before)
            for health in (Health.WARN, Health.CRITICAL):
                bad = sum(unhealthy[sums.place, health] for sums in group)
                yield Sample((*labels, ("health", health)), {UNHEALTHY: bad})
            yield from quantiles(CLIENT_RTT, (ns / 1e9 for sums in group for ns in sums.client_ns), labels)
            yield from quantiles(SERVER_RTT, (ns / 1e9 for sums in group for ns in sums.server_ns), labels)

    def _by_name(self, snapshot: PathSnapshot) -> dict[str, list[PathSums]]:
        """Return the sums of each interface; beyond MOST_TOTALS all share the name `other`."""
        found: defaultdict[str, list[PathSums]] = defaultdict(list)
        for sums in snapshot.sums:
            name = sums.interface
            has_room = name in self._sums or name in found or len(self._sums.keys() | found.keys()) < MOST_TOTALS
            found[name if has_room else "other"].append(sums)
        return found


def _grown(sums: PathSums, tick_ns: int) -> dict[str, float]:
    return {
        **{name: sums.counted(counter) for name, (counter, _, _) in COUNTED.items()},
        "xtrace_tcp_path_began_total": sums.opened,
        "xtrace_tcp_path_refused_total": sums.refused,
        "xtrace_tcp_path_window_closed_seconds_total": sums.counted("closed_ticks") * tick_ns / 1e9,
        "xtrace_tcp_path_no_room_packets_total": sums.missed.no_room,
        "xtrace_tcp_path_unread_packets_total": sums.missed.unread,
        "xtrace_tcp_path_second_pass_packets_total": sums.missed.second_pass,
    }
