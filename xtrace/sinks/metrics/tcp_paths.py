"""Metrics of TCP connections followed by their packets: sums by interface, bounded whatever their number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from xtrace.model.snapshot import Setup
from xtrace.model.tcp_path import PathSnapshot, PathSums
from xtrace.sinks.metrics.sample import Metric, Sample, Values

COUNTED = {
    "xtrace_tcp_path_packets_total": ("packets", "packets", "TCP packets of the connections that are followed."),
    "xtrace_tcp_path_data_packets_total": ("data_packets", "packets", "Those of them with payload."),
    "xtrace_tcp_path_retransmitted_packets_total": (
        "retransmitted_packets",
        "packets",
        "Packets whose payload had passed before.",
    ),
    "xtrace_tcp_path_late_packets_total": (
        "late_packets",
        "packets",
        "Packets that filled a gap which later ones had left: out of order, or lost before this point and sent again.",
    ),
    "xtrace_tcp_path_untold_packets_total": (
        "untold_packets",
        "packets",
        "Packets that are one or the other of the two, which cannot be told.",
    ),
    "xtrace_tcp_path_zero_windows_total": ("zero_windows", "packets", "Packets that announced a window of 0."),
    "xtrace_tcp_path_resets_total": ("resets", "packets", "Packets that reset a connection."),
    "xtrace_tcp_path_repeated_syns_total": ("repeated_syns", "packets", "SYNs and SYN-ACKs sent again."),
}
"""Name -> counter, unit, description."""

OTHERS = {
    "xtrace_tcp_path_began_total": ("connections", "Connections that began by a SYN."),
    "xtrace_tcp_path_refused_total": ("connections", "Connections that a reset refused."),
    "xtrace_tcp_path_no_room_packets_total": ("packets", "TCP packets whose connection found no room."),
    "xtrace_tcp_path_unread_packets_total": ("packets", "TCP packets in fragments, or cut short."),
}

DESCRIBED = {
    "xtrace_tcp_path_connections": Metric(
        "gauge", "connections", "TCP connections on which anything happened in the last interval."
    ),
    **{name: Metric("counter", unit, text) for name, (_, unit, text) in COUNTED.items()},
    **{name: Metric("counter", unit, text) for name, (unit, text) in OTHERS.items()},
}
"""In output order."""


class PathMetrics:
    """Sums since the run began."""

    described = DESCRIBED

    def __init__(self) -> None:
        self._sums: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def own(self, setup: Setup | None) -> Values:
        """Return nothing: there are no figures of the tool itself."""
        return {}

    def samples(self, snapshot: PathSnapshot) -> Iterator[Sample]:
        """Add up one interval, and yield all samples."""
        before = set(self._sums)
        connections = Counter({sums.interface: sums.connections for sums in snapshot.sums})
        for sums in snapshot.sums:
            self._sums[sums.interface].update(_grown(sums))
        for interface, total in self._sums.items():
            start = None if interface in before else dict.fromkeys(total, 0)
            values = {"xtrace_tcp_path_connections": connections[interface], **total}
            yield Sample((("interface", interface),), values, start)


def _grown(sums: PathSums) -> dict[str, int]:
    return {
        **{name: sums.counted(counter) for name, (counter, _, _) in COUNTED.items()},
        "xtrace_tcp_path_began_total": sums.opened,
        "xtrace_tcp_path_refused_total": sums.refused,
        "xtrace_tcp_path_no_room_packets_total": sums.missed.no_room,
        "xtrace_tcp_path_unread_packets_total": sums.missed.unread,
    }
