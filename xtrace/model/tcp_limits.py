"""Thresholds of the health of TCP connections. Apart from what uses them, as every command line is read with them."""

from __future__ import annotations

from xtrace.model.limits import PER_MINUTE, PERCENT, RATIO, Limit

PREFIX = "tcp_"
"""Begins every name, which tells them from those of RDMA ports."""

LIMITS: dict[str, Limit] = {
    "tcp_retransmitted": Limit(PERCENT, 1.0, 5.0, "retransmitted"),
    "tcp_late": Limit(PERCENT, 1.0, None, "late: out of order, or lost before this point"),
    "tcp_timeouts": Limit("in a row", 1.0, 4.0, "retransmissions without an answer"),
    "tcp_receiver_limited": Limit(PERCENT, 20.0, None, "of the interval"),
    "tcp_buffer_limited": Limit(PERCENT, 50.0, None, "of the interval"),
    "tcp_own_window": Limit(RATIO, 0.0, None, "own receive window closed"),
    "tcp_rtt": Limit("ms", None, None, "round trip"),
    "tcp_failed": Limit(PER_MINUTE, 10.0, None, "failed connects"),
    "tcp_reset": Limit(PER_MINUTE, 60.0, None, "connections ended by an error"),
}
"""Exceeded above the number, not at it."""
OF_SOCKETS = frozenset({"tcp_buffer_limited", "tcp_own_window"})
"""Those of what packets do not tell."""
OF_PACKETS = frozenset({"tcp_late"})
"""That of what sockets do not tell."""
