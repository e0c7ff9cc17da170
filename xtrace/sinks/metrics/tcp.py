"""Metrics of the health of TCP connections: sums over all sockets, bounded whatever their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from xtrace.kernel.syscall import lib
from xtrace.model.snapshot import Setup
from xtrace.model.tcp import TcpSnapshot
from xtrace.model.tcp_health import quantile
from xtrace.model.words import Health
from xtrace.sinks.metrics.sample import Labels, Metric, Sample, Values

SUMS = {
    "xtrace_tcp_retransmitted_packets_total": lib.TCP_RETRANSMITTED,
    "xtrace_tcp_segments_sent_total": lib.TCP_SEGMENTS_SENT,
    "xtrace_tcp_segments_received_total": lib.TCP_SEGMENTS_RECEIVED,
    "xtrace_tcp_data_segments_sent_total": lib.TCP_DATA_SENT,
    "xtrace_tcp_acknowledged_bytes_total": lib.TCP_BYTES_ACKED,
    "xtrace_tcp_received_bytes_total": lib.TCP_BYTES_RECEIVED,
    "xtrace_tcp_out_of_order_packets_total": lib.TCP_OUT_OF_ORDER,
}

DESCRIBED = {
    "xtrace_tcp_connections": Metric("gauge", "connections", "TCP connections of this host when the interval ended."),
    "xtrace_tcp_unhealthy_connections": Metric(
        "gauge",
        "connections",
        "Connections across the monitored interfaces with a verdict in the last interval, by health.",
    ),
    "xtrace_tcp_retransmitted_packets_total": Metric(
        "counter", "packets", "Packets that this host's sockets sent again, ended ones included."
    ),
    "xtrace_tcp_unseen_retransmissions_total": Metric(
        "counter", "packets", "Retransmissions that the kernel counted (RetransSegs) and that no socket showed."
    ),
    "xtrace_tcp_segments_sent_total": Metric("counter", "segments", "Segments that this host's sockets sent."),
    "xtrace_tcp_segments_received_total": Metric("counter", "segments", "Segments that this host's sockets received."),
    "xtrace_tcp_data_segments_sent_total": Metric(
        "counter", "segments", "Segments with payload that this host's sockets sent."
    ),
    "xtrace_tcp_acknowledged_bytes_total": Metric("counter", "bytes", "Payload sent that was acknowledged."),
    "xtrace_tcp_received_bytes_total": Metric("counter", "bytes", "Payload that this host's sockets received."),
    "xtrace_tcp_out_of_order_packets_total": Metric("counter", "packets", "Segments received out of order."),
    "xtrace_tcp_began_total": Metric("counter", "connections", "Connections that began, on either side."),
    "xtrace_tcp_ended_total": Metric("counter", "connections", "Connections that ended."),
    "xtrace_tcp_failed_connects_total": Metric(
        "counter", "connections", "Connections that were not established, by reason."
    ),
    "xtrace_tcp_broken_connections_total": Metric(
        "counter", "connections", "Established connections that ended by an error, by reason."
    ),
    "xtrace_tcp_lost_ends_total": Metric(
        "counter", "connections", "Ends of connections that found no room before they were read."
    ),
    "xtrace_tcp_rtt_seconds": Metric(
        "gauge",
        "seconds",
        "Smoothed round trip of the connections with traffic in the last interval, by quantile; 1 is the longest.",
    ),
}
"""In output order."""

QUANTILES = {"0.5": 0.5, "0.99": 0.99, "1": 1.0}


class TcpMetrics:
    """Sums since the run began."""

    described = DESCRIBED

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter(dict.fromkeys(SUMS, 0))
        self._failures: Counter[tuple[str, str]] = Counter()

    def own(self, setup: Setup | None) -> Values:
        """Return nothing: there are no figures of the tool itself."""
        return {}

    def samples(self, snapshot: TcpSnapshot) -> Iterator[Sample]:
        """Add up one interval, and yield all samples."""
        before = set(self._failures)
        known = [sums for sums in snapshot.namespaces if not sums.errors]
        for sums in known:
            for name, number in SUMS.items():
                self._sums[name] += sums.sums[number] if sums.sums else 0
            self._sums["xtrace_tcp_unseen_retransmissions_total"] += max(sums.unseen or 0, 0)
            self._sums["xtrace_tcp_began_total"] += sums.began
            self._sums["xtrace_tcp_ended_total"] += sums.ended
            if sums.lost_ends is not None:
                self._sums["xtrace_tcp_lost_ends_total"] += sums.lost_ends
            for failure in sums.failures:
                kind = "broken_connections" if failure.was_established else "failed_connects"
                self._failures[f"xtrace_tcp_{kind}_total", failure.reason] += failure.times
        if known:
            yield Sample((), {"xtrace_tcp_connections": sum(sums.connections for sums in known), **self._sums})
        for (name, reason), times in self._failures.items():
            yield Sample((("reason", reason),), {name: times}, None if (name, reason) in before else {name: 0})
        healths = Counter(connection.health for connection in snapshot.connections)
        for health in (Health.WARN, Health.CRITICAL):
            yield Sample((("health", health),), {"xtrace_tcp_unhealthy_connections": healths[health]})
        yield from quantiles("xtrace_tcp_rtt_seconds", (rtt / 1e6 for sums in known for rtt in sums.rtts))


def quantiles(metric: str, seconds: Iterable[float], labels: Labels = ()) -> Iterator[Sample]:
    """Yield a sample per quantile of round trips; none without any."""
    ordered = sorted(seconds)
    for label, part in QUANTILES.items():
        at = quantile(ordered, part)
        if at is not None:
            yield Sample((*labels, ("quantile", label)), {metric: at})
