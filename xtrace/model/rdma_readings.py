"""Widths, wraps, maxima and impossible values of counters; how values become Readings.

Widths of `counters/` are those of the InfiniBand specification's PortCounters (16.1.3.5); those of hw_counters are
from the drivers' sources.
"""

from __future__ import annotations

from xtrace.model.rdma import FIRST, GAUGE, RESET, SATURATED, UNAVAILABLE, Reading

STICKY_BITS = {
    "symbol_error": 16, "port_rcv_errors": 16, "port_xmit_discards": 16, "VL15_dropped": 16,
    "port_rcv_remote_physical_errors": 16, "port_rcv_switch_relay_errors": 16, "link_downed": 8,
    "link_error_recovery": 8, "port_rcv_constraint_errors": 8, "port_xmit_constraint_errors": 8,
    "local_link_integrity_errors": 4, "excessive_buffer_overrun_errors": 4, "port_xmit_wait": 32,
    "port_rcv_data": 32, "port_xmit_data": 32, "port_rcv_packets": 32, "port_xmit_packets": 32,
}  # fmt: skip
"""Widths of `counters/` that stop at their maximum. Data and packets have 64 bits if the hardware has the extended
set; then they pass this value so fast that a counter that stays at it is a narrow one."""

MLX5_WIDE = frozenset(
    {
        "rp_cnp_ignored", "rp_cnp_handled", "np_ecn_marked_roce_packets", "np_cnp_sent", "rx_icrc_encapsulated",
        "cc_rx_ce_pkts", "cc_rx_cnp_pkts", "cc_tx_cnp_pkts", "rdma_rx_bytes", "rdma_rx_packets", "rdma_tx_bytes",
        "rdma_tx_packets",
    }
)  # fmt: skip
"""mlx5's 64-bit hw_counters; all others are Q counters of 32 bits, which wrap (its counters.c)."""

WRAPS_AT = 1 << 32

OCTETS = 4
"""port_{xmit,rcv}_data count 4-octet words, on Ethernet too."""

WORDS = frozenset({"port_xmit_data", "port_rcv_data"})

MOST = (1 << 63) - 1
"""No hardware counts beyond: 800 Gbit/s for three years. Higher values are negative numbers."""
ALL_ONES = (1 << 64) - 1
"""Value of counters that a driver does not have (ionic_hw_stats.c, ionic_v1_stat_val())."""
STRICT_BITS = 16
"""Widths up to this are certain: sysfs extracts that many bits. Wider counters may have more than specified."""

TIMES_LINE_RATE = 4
SLACK_NS = 1_000_000_000
"""Firmware updates counters from time to time, not at every reading."""
FASTEST_BPS = 1_600_000_000_000
"""assumed for ports of unknown line rate"""
RATE_IS_WRONG = frozenset({"efa", "rdma_rxe", "siw"})
"""Drivers that report a constant line rate."""


def impossible(kind: str, name: str, value: int) -> str:
    """Why `value` is impossible for a counter; "" if it is possible. `kind` is `hw`, `std` or `eth`."""
    if value == ALL_ONES:
        return "all ones: the driver does not count it"
    most = MOST // OCTETS if kind == "std" and name in WORDS else MOST
    if not 0 <= value <= most:
        return f"{value}: not a possible count"
    bits = STICKY_BITS.get(name) if kind == "std" else None
    if bits is not None and bits <= STRICT_BITS and value >> bits:
        return f"{value}: more than the counter's {bits} bits"
    return ""


def most_growth(rate_bps: int | None, driver: str | None, elapsed_ns: int) -> int:
    """How much any counter of a port can have grown in that time: none counts faster than bytes."""
    known = rate_bps if driver is not None and driver not in RATE_IS_WRONG else None
    return TIMES_LINE_RATE * (known or FASTEST_BPS) // 8 * (elapsed_ns + SLACK_NS) // 1_000_000_000


def is_gauge(name: str) -> bool:
    """Whether a hw_counter is a level: bnxt_re's active_qps and similar, and their high-water marks."""
    return name.startswith(("active_", "watermark_"))


def wraps(driver: str | None, name: str) -> bool:
    """Whether a hw_counter has 32 bits and wraps around."""
    return driver == "mlx5_core" and name not in MLX5_WIDE


def saturates_at(name: str) -> int | None:
    """The value at which a counter of `counters/` stops; None if it does not."""
    bits = STICKY_BITS.get(name)
    return None if bits is None else (1 << bits) - 1


class Track:
    """One counter over time: turns values into Readings."""

    __slots__ = ("_base", "_doubted", "_gap", "_last")

    def __init__(self) -> None:
        self._last: int | None = None
        self._base = 0
        """sum of all wraps"""
        self._gap = False
        """whether it could not be read in the interval before"""
        self._doubted: int | None = None
        """the last value, if it was rejected as impossible"""

    def read(
        self, value: int, *, wrapping: bool = False, maximum: int | None = None, most: int | None = None
    ) -> Reading:
        """The Reading of a value. `most`: how much it can have grown since the last one."""
        doubted, self._doubted = self._doubted, None
        # the possible growth over a gap is unknown, except over one of rejected values
        if most is not None and self._last is not None and (doubted is not None or not self._gap):
            grown = value - self._last
            if grown > most and (doubted is None or not 0 <= value - doubted <= most):
                self._doubted = value
                return self.missed(f"grew by {grown}: more than {TIMES_LINE_RATE} times the line rate")
            if grown > most:  # and it stays there: it was set
                self._last, self._base, self._gap = value, 0, False
                return Reading(value, None, RESET)
        last, self._last = self._last, value
        after_gap, self._gap = self._gap, False
        reading = self._compare(last, value, wrapping=wrapping, maximum=maximum)
        if not after_gap or reading.delta is None:
            return reading
        # it grew over more than one interval; the growth in the last one is unknown
        return reading._replace(delta=None, status=reading.status if reading.status == SATURATED else FIRST)

    def _compare(self, last: int | None, value: int, *, wrapping: bool, maximum: int | None) -> Reading:
        """The Reading of `value` after `last`, regardless of gaps."""
        if maximum is not None and value == maximum:
            # it grew by at least this much up to the maximum; after that nothing is counted
            return Reading(value, value - last if last is not None and last < value else None, SATURATED)
        if last is None:
            return Reading(value, None, FIRST)
        if value >= last:
            return Reading(self._base + value, value - last, "ok")
        # a wrap goes from near the end to near the start; any other decrease is a reset
        if wrapping and last < WRAPS_AT and value - last + WRAPS_AT < WRAPS_AT // 2:
            self._base += WRAPS_AT
            return Reading(self._base + value, value - last + WRAPS_AT, "wrapped")
        self._base = 0
        return Reading(value, None, RESET)

    def missed(self, reason: str) -> Reading:
        """The Reading of a failed read. The next value has no delta; its total continues from the last one read."""
        self._gap = True
        return Reading(None, None, UNAVAILABLE, reason)


def gauge(value: int) -> Reading:
    """The Reading of a level."""
    return Reading(value, None, GAUGE)
