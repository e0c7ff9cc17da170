"""Names of RDMA drivers' counters, and how readings become figures.

The names are from the drivers' sources (drivers/infiniband/hw/*, drivers/infiniband/sw/rxe), old and new ones; ionic's
come from its firmware. Only whole names match: `rx_bytes` of one driver may be part of another's longer name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xtrace.model.rdma import UNAVAILABLE, Figure, Reading
from xtrace.model.rdma_readings import MOST, OCTETS
from xtrace.model.words import Direction


class Source(NamedTuple):
    """A possible source of a figure: counters of one set, added up, in units of `scale`."""

    set: str
    """`hw` (hw_counters) or `std` (counters)"""
    names: tuple[str, ...]
    scale: int = 1


def _hw(*names: str) -> Source:
    return Source("hw", names)


def _std(name: str, scale: int = 1) -> Source:
    return Source("std", (name,), scale)


FIGURES: dict[str, tuple[Source, ...]] = {
    # traffic
    "rx_bytes": (
        _std("port_rcv_data", OCTETS), _hw("rdma_rx_bytes"), _hw("rx_bytes"), _hw("rcvd_bytes"),
        _hw("ip4InOctets", "ip6InOctets"), _hw("rx_rdma_ucast_bytes", "rx_rdma_mcast_bytes"),
    ),
    "tx_bytes": (
        _std("port_xmit_data", OCTETS), _hw("rdma_tx_bytes"), _hw("tx_bytes"), _hw("sent_bytes"),
        _hw("ip4OutOctets", "ip6OutOctets"), _hw("tx_rdma_ucast_bytes", "tx_rdma_mcast_bytes"),
    ),
    "rx_packets": (
        _std("port_rcv_packets"), _hw("rdma_rx_packets"), _hw("rx_pkts"), _hw("rcvd_pkts"), _hw("rx_pkt"),
        _hw("ip4InPkts", "ip6InPkts"), _hw("rx_rdma_ucast_pkts", "rx_rdma_mcast_pkts"),
    ),
    "tx_packets": (
        _std("port_xmit_packets"), _hw("rdma_tx_packets"), _hw("tx_pkts"), _hw("sent_pkts"), _hw("tx_pkt"),
        _hw("ip4OutPkts", "ip6OutPkts"), _hw("tx_rdma_ucast_pkts", "tx_rdma_mcast_pkts"),
    ),
    # congestion
    "cnp_rx": (
        _hw("rp_cnp_handled"), _hw("rx_cnp_pkts"), _hw("cnpHandled"), _hw("rx_cnp_pkt"), _hw("rx_rdma_cnp_pkts"),
    ),
    "cnp_ignored": (_hw("rp_cnp_ignored"), _hw("cnpIgnored")),
    "cnp_tx": (
        _hw("np_cnp_sent"), _hw("np_cnp_pkts"), _hw("tx_cnp_pkts"), _hw("cnpSent"), _hw("tx_cnp_pkt"),
        _hw("tx_rdma_cnp_pkts"),
    ),
    "ecn_rx": (
        _hw("np_ecn_marked_roce_packets"), _hw("rx_ecn_marked_pkts"), _hw("RxECNMrkd"), _hw("rx_rdma_ecn_pkts"),
    ),
    "xmit_wait": (_std("port_xmit_wait"),),
    "slow_restart": (_hw("roce_slow_restart"),),
    # loss
    "rx_oos": (
        _hw("out_of_sequence"), _hw("oos_drop_count"), _hw("out_of_seq_request"), _hw("Rcvd Out of order packets"),
        _hw("resp_rx_outouf_seq"),
    ),
    "seq_nak_rx": (
        _hw("packet_seq_err"), _hw("seq_err_naks_rcvd"), _hw("rcvd_seq_err"), _hw("Nak Sequence Error"),
        _hw("req_rx_pkt_seq_err"),
    ),
    "ack_timeout": (
        _hw("local_ack_timeout_err"), _hw("to_retransmits"), _hw("completer_retry_err"), _hw("RTO"),
        _hw("retrans_timeout_events"), _hw("tx_rdma_ack_timeout"),
    ),
    "implied_nak": (
        _hw("implied_nak_seq_err"), _hw("missing_resp"), _hw("Nak Sequence Error Implied"),
        _hw("req_rx_impl_nak_seq_err"),
    ),
    "rnr_rx": (
        _hw("rnr_nak_retry_err"), _hw("rnr_naks_rcvd"), _hw("RNR received"), _hw("rcvd_rnr_err"),
        _hw("req_rx_rnr_retry_err"),
    ),
    "retry_exceeded": (
        _hw("req_transport_retries_exceeded"), _hw("max_retry_exceeded"), _hw("retry_exceeded_err"),
        _hw("unresponsive_remote_events"), _hw("req_tx_retry_excd_err"),
    ),
    "dup_req": (_hw("duplicate_request"), _hw("dup_req"), _hw("resp_rx_dup_request")),
    "no_rx_wqe": (_hw("out_of_buffer"), _hw("rx_out_of_buffer"), _hw("rx_drops"), _hw("resp_rx_outof_buf")),
    "retrans": (
        _hw("roce_adp_retrans", "roce_adp_retrans_to"), _hw("retrans_pkts"), _hw("RetransSegs"), _hw("tcpRetransSegs"),
        _hw("tx_rdma_retx_pkts"),
    ),
    "icrc": (_hw("rx_icrc_encapsulated"), _hw("CRC errors")),
    # the device
    "command_errors": (_hw("cmds_err", "no_completion_cmds"),),
    # link
    "link_downed": (_std("link_downed"), _hw("link_downed")),
    "link_error_recovery": (_std("link_error_recovery"),),
    "symbol_error": (_std("symbol_error"),),
    "rcv_errors": (_std("port_rcv_errors"),),
    "xmit_discards": (_std("port_xmit_discards"),),
    "constraint_errors": (
        Source("std", ("port_rcv_constraint_errors", "port_xmit_constraint_errors")),
    ),
    "link_integrity_errors": (_std("local_link_integrity_errors"),),
    "buffer_overrun_errors": (_std("excessive_buffer_overrun_errors"),),
}  # fmt: skip
"""Common name -> possible sources; the first that can be read is used from then on."""

CONGESTION = ("cnp_rx", "cnp_ignored", "cnp_tx", "ecn_rx", "xmit_wait", "slow_restart")
LOSS = (
    "rx_oos", "seq_nak_rx", "ack_timeout", "implied_nak", "rnr_rx", "retry_exceeded", "dup_req", "no_rx_wqe",
    "retrans", "icrc",
)  # fmt: skip
TICKS = frozenset({"xmit_wait"})
"""Figures that count time, not events: neither their share of packets nor their maximum means anything."""
LINK = (
    "link_downed", "link_error_recovery", "symbol_error", "rcv_errors", "xmit_discards", "constraint_errors",
    "link_integrity_errors", "buffer_overrun_errors", "command_errors",
)  # fmt: skip

OUTGOING = frozenset(
    {"cnp_rx", "cnp_ignored", "seq_nak_rx", "ack_timeout", "implied_nak", "rnr_rx", "retry_exceeded", "retrans"}
)
"""Figures about packets that this host sent; the others are about received packets."""


def direction_of(figure: str) -> Direction:
    """Direction of the packets that a figure's share per million refers to."""
    return Direction.EGRESS if figure in OUTGOING else Direction.INGRESS


NOT_COUNTERS = frozenset({"lifespan"})
"""Files in hw_counters that are settings."""

GONE = Reading(None, None, UNAVAILABLE, "the driver no longer has it")

_WORST = ("unavailable", "first", "reset", "saturated", "wrapped", "ok")
"""A sum has the worst status of its parts."""


def _sum(readings: list[Reading], scale: int) -> Reading:
    worst = min(readings, key=lambda reading: _WORST.index(reading.status))
    totals = [reading.total for reading in readings]
    deltas = [reading.delta for reading in readings]
    total = None if None in totals else scale * sum(t for t in totals if t is not None)
    delta = None if None in deltas else scale * sum(d for d in deltas if d is not None)
    if total is not None and total > MOST:
        return Reading(None, None, UNAVAILABLE, f"{total}: not a possible count")
    return Reading(total, delta, worst.status, worst.reason)


def figures(
    hardware: Mapping[str, Reading], standard: Mapping[str, Reading], kept: dict[str, Source] | None = None
) -> dict[str, Figure]:
    """A port's figures; those that the driver does not count are absent.

    `kept`: the sources of figures that were read before; this call adds to it. Figures stay with their source: the
    totals of two counters differ, and changing from one to the other would look like growth.
    """
    kept = {} if kept is None else kept
    sets = {"hw": hardware, "std": standard}
    found: dict[str, Figure] = {}
    for name, sources in FIGURES.items():
        source = kept.get(name) or _choose(sources, sets)
        if source is None:
            continue
        found[name] = _read_from(source, sets)
        if found[name].reading.status != UNAVAILABLE:
            kept[name] = source
    return found


Sets = Mapping[str, Mapping[str, Reading]]
"""Readings by Source.set, by the driver's names."""


def _choose(sources: tuple[Source, ...], sets: Sets) -> Source | None:
    """The first source that can be read, else the first that exists, reduced to the counters that exist."""
    present = [
        source._replace(names=tuple(name for name in source.names if name in sets[source.set])) for source in sources
    ]
    there = [source for source in present if source.names]
    readable = (source for source in there if _read_from(source, sets).reading.status != UNAVAILABLE)
    return next(readable, there[0] if there else None)


def _read_from(source: Source, sets: Sets) -> Figure:
    """Its counters added up; a counter that has disappeared makes it unavailable."""
    readings = [sets[source.set].get(name, GONE) for name in source.names]
    return Figure(_sum(readings, source.scale), source.names)
