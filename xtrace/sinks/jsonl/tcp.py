"""The health of TCP connections as JSON records: one per connection, one of each network namespace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xtrace.kernel.syscall import lib
from xtrace.model.tcp import CONGESTION_STATES, STATES, Connection, NamespaceSums, TcpSetup, TcpSnapshot
from xtrace.model.tcp_health import limited_by, quantile, worst
from xtrace.sinks.jsonl.lines import rendered
from xtrace.sinks.kinds import JsonOptions, Record
from xtrace.sinks.render import address, timestamp, valid_unicode

MOST_CONNECTIONS = 10_000
"""Records per interval; the worst and largest are shown, and how many are not."""
MOST_FAILURES = 100

GROWN = {
    "retransmitted_packets": lib.TCP_RETRANSMITTED,
    "retransmitted_bytes": lib.TCP_BYTES_RETRANSMITTED,
    "segments_sent": lib.TCP_SEGMENTS_SENT,
    "segments_received": lib.TCP_SEGMENTS_RECEIVED,
    "data_segments_sent": lib.TCP_DATA_SENT,
    "data_segments_received": lib.TCP_DATA_RECEIVED,
    "bytes_sent": lib.TCP_BYTES_SENT,
    "bytes_acked": lib.TCP_BYTES_ACKED,
    "bytes_received": lib.TCP_BYTES_RECEIVED,
    "delivered_packets": lib.TCP_DELIVERED,
    "ecn_ce_packets": lib.TCP_DELIVERED_CE,
    "duplicate_packets": lib.TCP_DUPLICATES,
    "reorderings": lib.TCP_REORDERED,
    "out_of_order_packets": lib.TCP_OUT_OF_ORDER,
    "busy_us": lib.TCP_BUSY,
    "receiver_limited_us": lib.TCP_RECEIVER_LIMITED,
    "send_buffer_limited_us": lib.TCP_BUFFER_LIMITED,
}
"""Fields of a connection: how much a counter grew in the interval."""

LEVELS = {
    "rtt_us": lib.TCP_RTT,
    "rtt_variance_us": lib.TCP_RTT_VARIANCE,
    "min_rtt_us": lib.TCP_MIN_RTT,
    "receiver_rtt_us": lib.TCP_RECEIVER_RTT,
    "rto_us": lib.TCP_RTO,
    "mss_bytes": lib.TCP_SEND_MSS,
    "cwnd_packets": lib.TCP_CWND,
    "ssthresh_packets": lib.TCP_SSTHRESH,
    "send_window_bytes": lib.TCP_SEND_WINDOW,
    "receive_window_bytes": lib.TCP_RECEIVE_WINDOW,
    "unacked_packets": lib.TCP_UNACKED,
    "lost_packets": lib.TCP_LOST,
    "unsent_bytes": lib.TCP_NOT_SENT,
    "unread_bytes": lib.TCP_UNREAD,
    "pacing_bytes_per_s": lib.TCP_PACING,
    "delivery_bytes_per_s": lib.TCP_DELIVERY_RATE,
    "timeouts": lib.TCP_TIMEOUTS,
    "probes": lib.TCP_PROBES,
}
"""Fields of a connection: as of the end of the interval."""

UNLIMITED = {"ssthresh_packets": 0x7FFF_FFFF, "pacing_bytes_per_s": 0xFFFF_FFFF_FFFF_FFFF}
"""What the kernel says where there is no limit."""

SUMS = (
    *("retransmitted_packets", "retransmitted_bytes", "segments_sent", "segments_received"),
    *("bytes_sent", "bytes_acked", "bytes_received", "ecn_ce_packets", "duplicate_packets", "out_of_order_packets"),
)
"""Of GROWN, those that are summed over all sockets."""


class TcpJson:
    """Renders records of type tcp_connection and tcp."""

    def __init__(self, options: JsonOptions) -> None:
        self._identity = options.identity
        self._most = min(options.top or MOST_CONNECTIONS, MOST_CONNECTIONS)

    def setup(self, setup: TcpSetup) -> Record:
        """Return whether ends are seen, and memory."""
        return {"tcp": {"sees_ends": setup.sees_ends, "map_memory_bytes": setup.map_memory}}

    def lines(self, snapshot: TcpSnapshot) -> Iterator[bytes]:
        """Yield all records of one interval."""
        return rendered(self._records(snapshot))

    def totals(self, totals: object) -> Record:
        """Nothing: there are no totals."""
        return {}

    def _records(self, snapshot: TcpSnapshot) -> Iterator[Record]:
        common = {
            "ts": timestamp(snapshot.end_ns),
            "interval_s": round(snapshot.interval_ns / 1e9, 3),
            **self._identity,
        }
        shown = worst(snapshot.connections, self._most)
        for connection in shown:
            yield connection_record(connection, snapshot.interval_ns, common)
        missing = Counter(connection.netns for connection in snapshot.connections)
        missing.subtract(connection.netns for connection in shown)
        for sums in snapshot.namespaces:
            yield sums_record(sums, common, missing[sums.netns])


def connection_record(connection: Connection, interval_ns: int, common: Record) -> Record:
    """Return the record of one connection in one interval."""
    sample = connection.sample
    ca_state = connection.level(lib.TCP_CA_STATE)
    known_state = ca_state is not None and ca_state < len(CONGESTION_STATES)
    levels = {name: connection.level(number) for name, number in LEVELS.items()}
    return {
        "type": "tcp_connection",
        **common,
        "netns": connection.netns,
        "local_ip": address(sample.local),
        "local_port": sample.local_port,
        "remote_ip": address(sample.remote),
        "remote_port": sample.remote_port,
        "state": STATES.get(sample.state, str(sample.state)),
        "began": connection.is_new,
        "ended": connection.has_ended,
        "error": connection.error,
        "closed_by_pid": connection.closer.pid if connection.closer else None,
        "closed_by_command": connection.closer.command if connection.closer else None,
        "health": connection.health,
        "reasons": list(connection.reasons),
        "limited_by": limited_by(connection, interval_ns),
        "congestion_algorithm": valid_unicode(sample.congestion) or None,
        "congestion_state": CONGESTION_STATES[ca_state] if ca_state is not None and known_state else None,
        **{name: None if value == UNLIMITED.get(name) else value for name, value in levels.items()},
        **{name: connection.growth[number] for name, number in GROWN.items()},
        "interfaces": [
            {
                "interface": valid_unicode(seen.interface),
                "direction": seen.direction,
                "packets": seen.packets,
                "bytes": seen.bytes,
            }
            for seen in connection.seen
        ],
    }


def sums_record(sums: NamespaceSums, common: Record, not_shown: int) -> Record:
    """Return the record of all sockets of a network namespace."""
    rtts = sums.rtts
    return {
        "type": "tcp",
        **common,
        "netns": sums.netns,
        "connections": None if sums.errors else sums.connections,
        "began": None if sums.errors else sums.began,
        "ended": None if sums.errors else sums.ended,
        **{name: sums.sums[GROWN[name]] if sums.sums else None for name in SUMS},
        "retrans_segs": sums.retrans_segs,
        "unseen": sums.unseen,
        "while_reading": sums.while_reading,
        "lost_ends": sums.lost_ends,
        "rtt_us": {name: quantile(rtts, part) for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
        "failed_connects": _by_reason(sums, was_established=False),
        "broken_connections": _by_reason(sums, was_established=True),
        "failures": [
            {
                "remote_ip": address(failure.remote) if any(failure.remote) else None,
                "port": failure.port,
                "reason": failure.reason,
                "was_established": failure.was_established,
                "times": failure.times,
            }
            for failure in sums.failures[:MOST_FAILURES]
        ],
        "health": sums.health,
        "reasons": list(sums.reasons),
        "not_shown": not_shown,
        "errors": list(sums.errors),
    }


def _by_reason(sums: NamespaceSums, *, was_established: bool) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for failure in sums.failures:
        if failure.was_established is was_established:
            counts[failure.reason.value] += failure.times
    return dict(counts)
