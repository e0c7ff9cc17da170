"""The interfaces' own counters, compared with what the hooks saw."""

from __future__ import annotations

from dataclasses import dataclass

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.messages import Say
from xtrace.model.flow import NOTHING, PacketCount
from xtrace.model.words import Direction

WINDOW_NS = 30_000_000_000
"""Length of a comparison: drivers update their counters up to a second late."""

LEAST_SEEN = 0.95
"""Share of an interface's packets below which the hook is reported to miss packets."""

LEAST_PACKETS = 100


@dataclass
class _Window:
    since_ns: int
    nic: PacketCount = NOTHING
    seen: PacketCount = NOTHING


class Coverage:
    """Differences of one interface's own counters, by direction.

    They follow the driver's definition of a packet and its length: comparable with our counts, never added to them.
    """

    def __init__(self, name: str, report: Say) -> None:
        self.name = name
        self._report = report
        self._last: dict[Direction, PacketCount] = {}
        self._passed: dict[Direction, PacketCount] = {}
        self._windows: dict[Direction, _Window] = {}
        self._reported: set[Direction] = set()

    def sample(self, link: LinkInfo | None) -> None:
        """Note the packets since the previous sample. None: the counters cannot be read now."""
        before, self._last, self._passed = self._last, {}, {}
        if link is None or None in (link.rx_packets, link.rx_bytes, link.tx_packets, link.tx_bytes):
            return
        self._last = {
            Direction.INGRESS: PacketCount(link.rx_packets or 0, link.rx_bytes or 0),
            Direction.EGRESS: PacketCount(link.tx_packets or 0, link.tx_bytes or 0),
        }
        for direction, last in before.items():
            now = self._last[direction]
            if now.packets >= last.packets and now.bytes >= last.bytes:  # otherwise the driver reset them
                self._passed[direction] = now - last

    def passed(self, direction: Direction) -> PacketCount | None:
        """What the interface counted between the last two samples; None if unknown."""
        return self._passed.get(direction)

    def compare(self, direction: Direction, seen: PacketCount, now_ns: int) -> None:
        """Report once if the hook misses a share of the interface's packets, over at least WINDOW_NS."""
        nic = self._passed.get(direction)
        window = self._windows.setdefault(direction, _Window(now_ns))
        if nic is None:
            self._windows[direction] = _Window(now_ns)
            return
        window.nic, window.seen = window.nic + nic, window.seen + seen
        if now_ns - window.since_ns < WINDOW_NS:
            return
        if window.seen.packets < LEAST_SEEN * window.nic.packets >= LEAST_PACKETS and direction not in self._reported:
            self._reported.add(direction)
            missed = 100 - 100 * window.seen.packets / window.nic.packets
            what = "sent" if direction is Direction.EGRESS else "received"
            self._report(
                f"{self.name}: the hook did not see {missed:.0f} % of the packets counted by the interface as {what}"
            )
        self._windows[direction] = _Window(now_ns)
