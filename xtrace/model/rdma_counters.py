"""What RDMA drivers call their counters, how wide those are, and how readings become figures.

The names are those of the drivers' sources (drivers/infiniband/hw/*, drivers/infiniband/sw/rxe), which changed
some of them over time; widths of `counters/` are those of the InfiniBand specification's PortCounters (16.1.3.5).
Names are matched whole: `rx_bytes` of one driver is not part of a longer name of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xtrace.model.rdma import FIRST, GAUGE, RESET, SATURATED, UNAVAILABLE, Figure, Reading
from xtrace.model.words import Direction


class Source(NamedTuple):
    """Where a figure may come from: counters of one set, added up, in units of `scale`."""

    set: str
    """`hw` (hw_counters) or `std` (counters)"""
    names: tuple[str, ...]
    scale: int = 1


def _hw(*names: str) -> Source:
    return Source("hw", names)


def _std(name: str, scale: int = 1) -> Source:
    return Source("std", (name,), scale)


OCTETS = 4
"""port_{xmit,rcv}_data count 4-octet words, on Ethernet too."""

FIGURES: dict[str, tuple[Source, ...]] = {
    # traffic
    "rx_bytes": (
        _std("port_rcv_data", OCTETS), _hw("rdma_rx_bytes"), _hw("rx_bytes"), _hw("rcvd_bytes"),
        _hw("ip4InOctets", "ip6InOctets"),
    ),
    "tx_bytes": (
        _std("port_xmit_data", OCTETS), _hw("rdma_tx_bytes"), _hw("tx_bytes"), _hw("sent_bytes"),
        _hw("ip4OutOctets", "ip6OutOctets"),
    ),
    "rx_packets": (
        _std("port_rcv_packets"), _hw("rdma_rx_packets"), _hw("rx_pkts"), _hw("rcvd_pkts"), _hw("rx_pkt"),
        _hw("ip4InPkts", "ip6InPkts"),
    ),
    "tx_packets": (
        _std("port_xmit_packets"), _hw("rdma_tx_packets"), _hw("tx_pkts"), _hw("sent_pkts"), _hw("tx_pkt"),
        _hw("ip4OutPkts", "ip6OutPkts"),
    ),
    # congestion
    "cnp_rx": (_hw("rp_cnp_handled"), _hw("rx_cnp_pkts"), _hw("cnpHandled"), _hw("rx_cnp_pkt")),
    "cnp_ignored": (_hw("rp_cnp_ignored"), _hw("cnpIgnored")),
    "cnp_tx": (_hw("np_cnp_sent"), _hw("np_cnp_pkts"), _hw("tx_cnp_pkts"), _hw("cnpSent"), _hw("tx_cnp_pkt")),
    "ecn_rx": (_hw("np_ecn_marked_roce_packets"), _hw("rx_ecn_marked_pkts"), _hw("RxECNMrkd")),
    "xmit_wait": (_std("port_xmit_wait"),),
    "slow_restart": (_hw("roce_slow_restart"),),
    # loss
    "rx_oos": (
        _hw("out_of_sequence"), _hw("oos_drop_count"), _hw("out_of_seq_request"), _hw("Rcvd Out of order packets"),
    ),
    "seq_nak_rx": (
        _hw("packet_seq_err"), _hw("seq_err_naks_rcvd"), _hw("rcvd_seq_err"), _hw("Nak Sequence Error"),
    ),
    "ack_timeout": (
        _hw("local_ack_timeout_err"), _hw("to_retransmits"), _hw("completer_retry_err"), _hw("RTO"),
        _hw("retrans_timeout_events"),
    ),
    "implied_nak": (_hw("implied_nak_seq_err"), _hw("missing_resp"), _hw("Nak Sequence Error Implied")),
    "rnr_rx": (_hw("rnr_nak_retry_err"), _hw("rnr_naks_rcvd"), _hw("RNR received"), _hw("rcvd_rnr_err")),
    "retry_exceeded": (
        _hw("req_transport_retries_exceeded"), _hw("max_retry_exceeded"), _hw("retry_exceeded_err"),
        _hw("unresponsive_remote_events"),
    ),
    "dup_req": (_hw("duplicate_request"), _hw("dup_req")),
    "no_rx_wqe": (_hw("out_of_buffer"), _hw("rx_out_of_buffer"), _hw("rx_drops")),
    "retrans": (
        _hw("roce_adp_retrans", "roce_adp_retrans_to"), _hw("retrans_pkts"), _hw("RetransSegs"), _hw("tcpRetransSegs"),
    ),
    "icrc": (_hw("rx_icrc_encapsulated"), _hw("CRC errors")),
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
"""Name for all drivers -> where it may come from; the first that can be read is taken, and kept to."""

CONGESTION = ("cnp_rx", "cnp_ignored", "cnp_tx", "ecn_rx", "xmit_wait", "slow_restart")
LOSS = (
    "rx_oos", "seq_nak_rx", "ack_timeout", "implied_nak", "rnr_rx", "retry_exceeded", "dup_req", "no_rx_wqe",
    "retrans", "icrc",
)  # fmt: skip
LINK = (
    "link_downed", "link_error_recovery", "symbol_error", "rcv_errors", "xmit_discards", "constraint_errors",
    "link_integrity_errors", "buffer_overrun_errors",
)  # fmt: skip

OUTGOING = frozenset(
    {"cnp_rx", "cnp_ignored", "seq_nak_rx", "ack_timeout", "implied_nak", "rnr_rx", "retry_exceeded", "retrans"}
)
"""Figures about packets that this host sent. The others are about received ones."""


def direction_of(figure: str) -> Direction:
    """Whose packets a figure's events are given per million of: those sent, or those received."""
    return Direction.EGRESS if figure in OUTGOING else Direction.INGRESS


STICKY_BITS = {
    "symbol_error": 16, "port_rcv_errors": 16, "port_xmit_discards": 16, "VL15_dropped": 16,
    "port_rcv_remote_physical_errors": 16, "port_rcv_switch_relay_errors": 16, "link_downed": 8,
    "link_error_recovery": 8, "port_rcv_constraint_errors": 8, "port_xmit_constraint_errors": 8,
    "local_link_integrity_errors": 4, "excessive_buffer_overrun_errors": 4, "port_xmit_wait": 32,
    "port_rcv_data": 32, "port_xmit_data": 32, "port_rcv_packets": 32, "port_xmit_packets": 32,
}  # fmt: skip
"""Widths of those in `counters/` that stop at their maximum. Data and packets have 64 bits where the hardware has
the extended set; then they pass this value so fast that standing at it means the narrow set all the same."""

MLX5_WIDE = frozenset(
    {
        "rp_cnp_ignored", "rp_cnp_handled", "np_ecn_marked_roce_packets", "np_cnp_sent", "rx_icrc_encapsulated",
        "cc_rx_ce_pkts", "cc_rx_cnp_pkts", "cc_tx_cnp_pkts", "rdma_rx_bytes", "rdma_rx_packets", "rdma_tx_bytes",
        "rdma_tx_packets",
    }
)  # fmt: skip
"""mlx5's 64-bit hw_counters; all others are Q counters of 32 bits, which wrap (its counters.c)."""

WRAPS_AT = 1 << 32
NOT_COUNTERS = frozenset({"lifespan"})
"""Files among hw_counters that are settings."""


def is_gauge(name: str) -> bool:
    """Whether a hw_counter is a level: bnxt_re's active_qps and the like, and their high-water marks."""
    return name.startswith(("active_", "watermark_"))


def wraps(driver: str | None, name: str) -> bool:
    """Whether a hw_counter has 32 bits and starts again at 0."""
    return driver == "mlx5_core" and name not in MLX5_WIDE


def saturates_at(name: str) -> int | None:
    """The value at which one of `counters/` stays; None for those that do not."""
    bits = STICKY_BITS.get(name)
    return None if bits is None else (1 << bits) - 1


class Track:
    """One counter over time: turns what was read into a Reading."""

    __slots__ = ("_base", "_gap", "_last")

    def __init__(self) -> None:
        self._last: int | None = None
        self._base = 0
        """what wraps have added up to"""
        self._gap = False
        """whether it was not read in the interval before"""

    def read(self, value: int, *, wrapping: bool = False, maximum: int | None = None) -> Reading:
        """Take a value that was read."""
        last, self._last = self._last, value
        after_gap, self._gap = self._gap, False
        reading = self._compare(last, value, wrapping=wrapping, maximum=maximum)
        if not after_gap or reading.delta is None:
            return reading
        # it grew in more than one interval, and by how much in the last is not known
        return reading._replace(delta=None, status=reading.status if reading.status == SATURATED else FIRST)

    def _compare(self, last: int | None, value: int, *, wrapping: bool, maximum: int | None) -> Reading:
        """What `value` is after `last`."""
        if maximum is not None and value == maximum:
            # the step to the maximum is known to be at least what it shows; after that nothing is counted
            return Reading(value, value - last if last is not None and last < value else None, SATURATED)
        if last is None:
            return Reading(value, None, FIRST)
        if value >= last:
            return Reading(self._base + value, value - last, "ok")
        # a wrap goes from near the end to near the start; anything else that shrinks was set back
        if wrapping and last < WRAPS_AT and value - last + WRAPS_AT < WRAPS_AT // 2:
            self._base += WRAPS_AT
            return Reading(self._base + value, value - last + WRAPS_AT, "wrapped")
        self._base = 0
        return Reading(value, None, RESET)

    def missed(self, reason: str) -> Reading:
        """It could not be read. The next value is a first one, but its total goes on from the last that was."""
        self._gap = True
        return Reading(None, None, UNAVAILABLE, reason)


def gauge(value: int) -> Reading:
    """The Reading of a level."""
    return Reading(value, None, GAUGE)


GONE = Reading(None, None, UNAVAILABLE, "the driver no longer has it")

_WORST = ("unavailable", "first", "reset", "saturated", "wrapped", "ok")
"""A sum is worth as little as the least of what was added."""


def _sum(readings: list[Reading], scale: int) -> Reading:
    worst = min(readings, key=lambda reading: _WORST.index(reading.status))
    totals = [reading.total for reading in readings]
    deltas = [reading.delta for reading in readings]
    total = None if None in totals else scale * sum(t for t in totals if t is not None)
    delta = None if None in deltas else scale * sum(d for d in deltas if d is not None)
    return Reading(total, delta, worst.status, worst.reason)


def figures(
    hardware: Mapping[str, Reading], standard: Mapping[str, Reading], kept: dict[str, Source] | None = None
) -> dict[str, Figure]:
    """The figures that a port's counters give. What the driver does not count is not among them.

    `kept`: of figures that were read before, where from; this call adds to it. They stay with that: the totals of two
    counters are two numbers, and going from one to the other would look like growth.
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
    """The first source that can be read, else the first that is there at all, with those of its counters that are."""
    present = [
        source._replace(names=tuple(name for name in source.names if name in sets[source.set])) for source in sources
    ]
    there = [source for source in present if source.names]
    readable = (source for source in there if _read_from(source, sets).reading.status != UNAVAILABLE)
    return next(readable, there[0] if there else None)


def _read_from(source: Source, sets: Sets) -> Figure:
    """Its counters added up; what once was there and no longer is makes it unavailable."""
    readings = [sets[source.set].get(name, GONE) for name in source.names]
    return Figure(_sum(readings, source.scale), source.names)
