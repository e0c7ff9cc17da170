"""The interfaces' own counters, compared with what the hooks saw."""

from __future__ import annotations

from dataclasses import dataclass, field

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.messages import Say
from xtrace.model.flow import NOTHING, PacketCount
from xtrace.model.words import Direction, Share

CHUNK_NS = 900_000_000
"""Shortest comparison for gross differences, of which two in a row decide: an interval of a second, but for jitter.

Drivers update their counters up to a second late, so that one alone decides nothing."""

LEAST_GROSS = 10
"""Packets in a comparison below which it decides nothing."""

WINDOW_NS = 30_000_000_000
"""Length of a comparison for smaller shares."""

LEAST_SEEN = 0.95
"""Share of an interface's packets below which the hook is reported to miss packets, over WINDOW_NS."""

LEAST_PACKETS = 100
"""Packets in a window below which it decides nothing."""


@dataclass
class _Sums:
    """Both counts over a time."""

    length_ns: int = 0
    nic: PacketCount = NOTHING
    seen: PacketCount = NOTHING

    def add(self, length_ns: int, nic: PacketCount, seen: PacketCount) -> None:
        self.length_ns += length_ns
        self.nic, self.seen = self.nic + nic, self.seen + seen

    def gross(self) -> Share | None:
        """The share that the hook saw; None if unknown.

        Both packets and bytes must differ: interfaces count merged packets once, and define lengths differently.
        """
        nic, seen = self.nic, self.seen
        if max(nic.packets, seen.packets) < LEAST_GROSS or not nic.packets:
            return None
        if not seen.packets:
            return Share.NONE
        if 2 * seen.packets < nic.packets and 2 * seen.bytes < nic.bytes:
            return Share.PARTIAL
        if 2 * seen.packets > 3 * nic.packets and 2 * seen.bytes > 3 * nic.bytes:
            return Share.REPEATED
        return Share.FULL


@dataclass
class _Way:
    """The comparisons of one direction."""

    last: PacketCount | None = None
    passed: PacketCount | None = None
    """what the interface counted between the last two samples"""
    compared: PacketCount | None = None
    """the same, also since the program was attached"""
    chunk: _Sums = field(default_factory=_Sums)
    window: _Sums = field(default_factory=_Sums)
    verdict: Share | None = None
    """of the chunk before"""
    share: Share | None = None
    misses_some: bool = False
    """whether the last window was below LEAST_SEEN"""
    reported: set[Share] = field(default_factory=set)


class Coverage:
    """Differences of one interface's own counters, by direction.

    They follow the driver's definition of a packet and its length: comparable with our counts, never added to them.
    """

    def __init__(self, name: str, report: Say, before: LinkInfo | None = None) -> None:
        """`before`: the interface just before a program was attached."""
        self.name = name
        self._report = report
        self._ways = {direction: _Way() for direction in Direction}
        self._baseline = _counters(before)

    def sample(self, link: LinkInfo | None) -> None:
        """Note the packets since the previous sample. None: the counters cannot be read now."""
        now = _counters(link)
        for direction, way in self._ways.items():
            way.passed = _growth(way.last, now.get(direction))
            since_attached = way.last is None
            first = self._baseline.get(direction)
            way.compared = _growth(first, now.get(direction)) if since_attached else way.passed
            way.last = now.get(direction)
        self._baseline = {}

    def passed(self, direction: Direction) -> PacketCount | None:
        """What the interface counted between the last two samples; None if unknown."""
        return self._ways[direction].passed

    def compare(self, direction: Direction, seen: PacketCount, length_ns: int, *, merged: bool = False) -> Share | None:
        """The share of the interface's packets that the hook sees, by all comparisons so far; None if unknown.

        `merged`: the hook sees merged packets as one, so that only gross differences mean anything.

        What differs is reported once for each direction and kind: gross differences when two chunks in a row show the
        same, at the end of the second interval that is not shorter than CHUNK_NS; smaller shares after WINDOW_NS.
        """
        way = self._ways[direction]
        if way.compared is None:
            way.chunk, way.window, way.verdict = _Sums(), _Sums(), None
        else:
            for sums in (way.chunk, way.window):
                sums.add(length_ns, way.compared, seen)
            self._judge_chunk(direction, way)
            if not merged:
                self._judge_window(direction, way)
        return Share.PARTIAL if way.misses_some and way.share in (None, Share.FULL) else way.share

    def _judge_chunk(self, direction: Direction, way: _Way) -> None:
        if way.chunk.length_ns < CHUNK_NS:
            return
        before, way.verdict = way.verdict, way.chunk.gross()
        if way.verdict is not None and way.verdict is before:
            way.share = way.verdict
            self._report_once(direction, way, way.verdict, way.chunk)
        way.chunk = _Sums()

    def _judge_window(self, direction: Direction, way: _Way) -> None:
        window = way.window
        if window.length_ns < WINDOW_NS:
            return
        nic = window.nic.packets
        way.misses_some = nic >= LEAST_PACKETS and window.seen.packets < LEAST_SEEN * nic
        if way.misses_some and not way.reported & {Share.NONE, Share.PARTIAL}:
            self._report_once(direction, way, Share.PARTIAL, window)
        way.window = _Sums()

    def _report_once(self, direction: Direction, way: _Way, share: Share, sums: _Sums) -> None:
        if share is Share.FULL or share in way.reported:
            return
        way.reported.add(share)
        nic, seen = sums.nic.packets, sums.seen.packets
        verb = "sent" if direction is Direction.EGRESS else "received"
        if share is Share.NONE:
            line = f"the hook sees none of the packets that the interface counts as {verb}"
        elif share is Share.REPEATED:
            line = f"the hook counts {seen / nic:.1f} times the packets that the interface counts as {verb}"
            line += f": {_WHY_MORE[direction]}"
        else:
            missed = 100 - 100 * seen / nic
            line = f"the hook did not see {missed:.0f} % of the packets counted by the interface as {verb}"
        self._report(f"{self.name}: {line}")


_WHY_MORE = {
    Direction.INGRESS: "some come from another interface (tc redirect),"
    " or pass it twice (IPsec at generic XDP, or in UDP not on port 4500)",
    Direction.EGRESS: "some pass it twice, as after a detour (ifb), or are dropped behind it",
}


def _counters(link: LinkInfo | None) -> dict[Direction, PacketCount]:
    """An interface's own counters; nothing where they are not known."""
    if link is None or link.rx_packets is None or link.rx_bytes is None:
        return {}
    if link.tx_packets is None or link.tx_bytes is None:
        return {}
    return {
        Direction.INGRESS: PacketCount(link.rx_packets, link.rx_bytes),
        Direction.EGRESS: PacketCount(link.tx_packets, link.tx_bytes),
    }


def _growth(last: PacketCount | None, now: PacketCount | None) -> PacketCount | None:
    """The difference; None if one is not known, or the driver has reset them."""
    if last is None or now is None or now.packets < last.packets or now.bytes < last.bytes:
        return None
    return now - last
