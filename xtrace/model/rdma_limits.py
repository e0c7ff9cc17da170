"""Thresholds of the health of RDMA ports. Apart from what uses them, as every command line is read with them."""

from __future__ import annotations

from xtrace.model.limits import PER_MILLION, PER_MINUTE, PERCENT, RATIO, Limit

LIMITS: dict[str, Limit] = {
    "retry_exceeded": Limit(PER_MINUTE, None, 0.0, "transport retries exceeded"),
    "link_downed": Limit(PER_MINUTE, None, 0.0, "link downs"),
    "ack_timeout": Limit(PER_MINUTE, 0.0, 60.0, "local ACK timeouts"),
    "link_error_recovery": Limit(PER_MINUTE, 0.0, None, "link error recoveries"),
    "symbol_error": Limit(PER_MINUTE, 10.0, None, "symbol errors"),
    "rcv_errors": Limit(PER_MINUTE, 10.0, None, "receive errors"),
    "xmit_discards": Limit(PER_MINUTE, 10.0, None, "transmit discards"),
    "constraint_errors": Limit(PER_MINUTE, 10.0, None, "constraint errors"),
    "link_integrity_errors": Limit(PER_MINUTE, 10.0, None, "link integrity errors"),
    "buffer_overrun_errors": Limit(PER_MINUTE, 10.0, None, "buffer overruns"),
    "icrc": Limit(PER_MINUTE, 10.0, None, "ICRC errors"),
    "command_errors": Limit(PER_MINUTE, 10.0, None, "failed device commands"),
    "rx_oos": Limit(PER_MILLION, 100.0, 10_000.0, "packets out of sequence"),
    "seq_nak_rx": Limit(PER_MILLION, 100.0, 10_000.0, "sequence NAKs received"),
    "implied_nak": Limit(PER_MILLION, 100.0, 10_000.0, "implied NAKs"),
    "dup_req": Limit(PER_MILLION, 1_000.0, 10_000.0, "repeated requests received"),
    "retrans": Limit(PER_MILLION, 1_000.0, 10_000.0, "retransmissions"),
    "rnr_rx": Limit(PER_MILLION, 1_000.0, 100_000.0, "receiver not ready NAKs"),
    "no_rx_wqe": Limit(PER_MILLION, 1_000.0, 100_000.0, "packets without a receive buffer"),
    "cnp_rx": Limit(PER_MILLION, 10_000.0, None, "congestion notifications received"),
    "cnp_tx": Limit(PER_MILLION, 10_000.0, None, "congestion notifications sent"),
    "paused": Limit(PERCENT, 1.0, 20.0, "of the time paused"),
    "imbalance": Limit(RATIO, 1.5, None, "times the mean on the busiest port"),
    "idle": Limit(RATIO, 0.0, None, "active ports without traffic while others had some"),
}
"""Exceeded above the number, not at it: with 0 the first event counts."""
