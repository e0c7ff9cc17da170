"""What a counter's value is worth: widths, wraps, maxima, what cannot be; how values become Readings.

Widths of `counters/` are those of the InfiniBand specification's PortCounters (16.1.3.5), those of hw_counters of the
drivers' sources.
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

OCTETS = 4
"""port_{xmit,rcv}_data count 4-octet words, on Ethernet too."""

WORDS = frozenset({"port_xmit_data", "port_rcv_data"})

MOST = (1 << 63) - 1
"""No hardware counts further: 800 Gbit/s for three years. What is beyond was a negative number."""
ALL_ONES = (1 << 64) - 1
"""What drivers answer for counters that they do not have (ionic_hw_stats.c, ionic_v1_stat_val())."""
STRICT_BITS = 16
"""Widths that hold for sure: sysfs cuts them out of the answer. Wider counters may have more bits than specified."""

TIMES_LINE_RATE = 4
SLACK_NS = 1_000_000_000
"""Firmware hands counters over now and then, not at every reading."""
FASTEST_BPS = 1_600_000_000_000
"""For ports whose rate is not known."""
RATE_IS_WRONG = frozenset({"efa", "rdma_rxe", "siw"})
"""Drivers that report a constant."""


def impossible(kind: str, name: str, value: int) -> str:
    """Why a counter cannot stand at `value`; "" where it can. `kind` is `hw`, `std` or `eth`."""
    if value == ALL_ONES:
        return "all ones: the driver does not count it"
    most = MOST // OCTETS if kind == "std" and name in WORDS else MOST
    if not 0 <= value <= most:
        return f"{value}: no hardware counts to that"
    bits = STICKY_BITS.get(name) if kind == "std" else None
    if bits is not None and bits <= STRICT_BITS and value >> bits:
        return f"{value}: it has {bits} bits"
    return ""


def most_growth(rate_bps: int | None, driver: str | None, elapsed_ns: int) -> int:
    """How much any counter of a port can have grown in that time: all of them count bytes, or less often."""
    known = rate_bps if driver is not None and driver not in RATE_IS_WRONG else None
    return TIMES_LINE_RATE * (known or FASTEST_BPS) // 8 * (elapsed_ns + SLACK_NS) // 1_000_000_000


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

    __slots__ = ("_base", "_doubted", "_gap", "_last")

    def __init__(self) -> None:
        self._last: int | None = None
        self._base = 0
        """what wraps have added up to"""
        self._gap = False
        """whether it was not read in the interval before"""
        self._doubted: int | None = None
        """a value that was not believed, the last time"""

    def read(
        self, value: int, *, wrapping: bool = False, maximum: int | None = None, most: int | None = None
    ) -> Reading:
        """Take a value that was read. `most`: by how much it can have grown since the last one."""
        doubted, self._doubted = self._doubted, None
        # how much it can have grown over a gap is not known; over one that a doubt made, it is
        if most is not None and self._last is not None and (doubted is not None or not self._gap):
            grown = value - self._last
            if grown > most and (doubted is None or not 0 <= value - doubted <= most):
                self._doubted = value
                return self.missed(f"grew by {grown}: more than {TIMES_LINE_RATE} times the line rate")
            if grown > most:  # and it stays there: somebody set it
                self._last, self._base, self._gap = value, 0, False
                return Reading(value, None, RESET)
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
