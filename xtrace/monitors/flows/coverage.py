"""What the interfaces count themselves, beside what the hooks see."""

from __future__ import annotations

from dataclasses import dataclass

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.messages import Say
from xtrace.model.flow import NOTHING, PacketCount

WINDOW_NS = 30_000_000_000
"""How long both are compared before anything is said: drivers update their counters up to a second late."""

LEAST_SEEN = 0.95
"""Share of an interface's packets that the hook must see for nothing to be said."""

LEAST_PACKETS = 100


@dataclass
class _Window:
    since_ns: int
    nic: PacketCount = NOTHING
    seen: PacketCount = NOTHING


class Coverage:
    """Differences of one interface's own counters, by whether it is egress.

    They have its driver's definition of a packet and its length: to be compared, never to be added to
    what is counted here.
    """

    def __init__(self, name: str, say: Say) -> None:
        self.name = name
        self._say = say
        self._last: dict[bool, PacketCount] = {}
        self._passed: dict[bool, PacketCount] = {}
        self._windows: dict[bool, _Window] = {}
        self._told: set[bool] = set()

    def sample(self, link: LinkInfo | None) -> None:
        """Note what passed since the sample before. None: the counters cannot be read now."""
        before, self._last, self._passed = self._last, {}, {}
        if link is None or None in (link.rx_packets, link.rx_bytes, link.tx_packets, link.tx_bytes):
            return
        self._last = {
            False: PacketCount(link.rx_packets or 0, link.rx_bytes or 0),
            True: PacketCount(link.tx_packets or 0, link.tx_bytes or 0),
        }
        for egress, last in before.items():
            now = self._last[egress]
            if now.packets >= last.packets and now.bytes >= last.bytes:  # else the driver began anew
                self._passed[egress] = now - last

    def passed(self, egress: bool) -> PacketCount | None:
        """What the interface counted between the last two samples; None where that is not known."""
        return self._passed.get(egress)

    def compare(self, egress: bool, seen: PacketCount, now_ns: int) -> None:
        """Say once where the hook misses a share of what the interface counted, over WINDOW_NS at least."""
        nic = self._passed.get(egress)
        window = self._windows.setdefault(egress, _Window(now_ns))
        if nic is None:
            self._windows[egress] = _Window(now_ns)
            return
        window.nic, window.seen = window.nic + nic, window.seen + seen
        if now_ns - window.since_ns < WINDOW_NS:
            return
        if window.seen.packets < LEAST_SEEN * window.nic.packets >= LEAST_PACKETS and egress not in self._told:
            self._told.add(egress)
            missed = 100 - 100 * window.seen.packets / window.nic.packets
            what = "sent" if egress else "received"
            self._say(f"{self.name}: {missed:.0f} % of the packets that it counts as {what} are not seen by the hook")
        self._windows[egress] = _Window(now_ns)
