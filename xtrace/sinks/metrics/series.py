"""Which flows of an interface have series of their own, and what the rest adds up to.

At most `most` flows hold a place, each until it has been idle for KEPT_NS. A flow without one takes a free
place, or that of a flow it outweighs: a flow weighs its bytes per interval, halved with every
HALF_LIFE_NS since, and must be outweighed twice. So flows of similar size do not take turns.

A new series costs part of a budget: `most` at once, then as many an hour. Without it short flows would make
new series without end, because holders that have ended weigh nothing after some minutes. While it lasts the
largest flows of an interval go first; then those with the most bytes over several intervals, faded in the same
way, so that long flows go before short ones. What has no place counts in `other`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xtrace.model.flow import NOTHING, SLOT_OFFSET, FlowTable, InterfaceCounts, PacketCount
from xtrace.sinks.metrics.sample import Labels

KEPT_NS = 300 * 10**9
"""A flow that returns within this time continues its counters."""
HALF_LIFE_NS = 60 * 10**9
OUTWEIGHS = 2
REMEMBERED = 5
"""Displaced flows whose counters are kept, and flows known to have had series, as multiples of the places."""
NEW_PER_HOUR = 1.0
"""New series that the budget grows by in an hour, as a multiple of the places."""
HOUR_NS = 3600 * 10**9


Counted = tuple[PacketCount, PacketCount, PacketCount, PacketCount]
"""All packets, unattributed packets, filtered packets, fragments of unknown ports."""


class Series:
    """Counters of one flow, or of all other flows together."""

    __slots__ = ("active_ns", "bytes", "gained_bytes", "gained_packets", "labels", "packets", "weight", "written")

    def __init__(self, labels: Labels, total: PacketCount = NOTHING) -> None:
        self.labels = labels
        self.packets, self.bytes = total
        self.gained_packets = self.gained_bytes = 0
        """in this interval; not yet in the totals"""
        self.weight = 0.0
        self.active_ns = 0
        """end of the last interval with traffic, CLOCK_MONOTONIC"""
        self.written = -1
        """last tick with a sample"""

    def settle(self, now_ns: int) -> None:
        """Add this interval's gain to the totals."""
        self.packets += self.gained_packets
        self.bytes += self.gained_bytes
        self.active_ns = now_ns


@dataclass
class Group:
    """One interface and direction."""

    most: int
    other: Series
    labels: Labels
    """of the interface's counters"""
    labels_of: Callable[[bytes], Labels]
    """from a packed key to series labels"""
    nic: Series = field(init=False)
    """the NIC's own counters"""
    nic_is_known: bool = False
    """whether this interval has NIC counters"""
    queue: Series = field(init=False)
    """packets dropped by its queue"""
    queue_is_known: bool = False
    """whether this interval has a queue's counter"""
    written: int = -1
    """last tick in which the interface's counters had samples"""
    counted: Counted = (NOTHING,) * 4
    before: Counted = (NOTHING,) * 4
    """the same at the start of the interval"""
    places: dict[bytes, Series] = field(default_factory=dict)
    remembered: dict[bytes, tuple[PacketCount, int]] = field(default_factory=dict)
    """counters of displaced flows and when they were last active, oldest first"""
    ended: list[Series] = field(default_factory=list)
    """series displaced or expired in this tick"""
    known: dict[bytes, None] = field(default_factory=dict)
    """flows that had series lately, oldest first: another series costs nothing, its labels are the same"""
    waiting: dict[bytes, float] = field(default_factory=dict)
    """bytes, faded, of flows that got no place in the last interval because the budget was used up"""
    _budget: float = 0.0
    _labels: set[Labels] = field(default_factory=set)
    """of flows that hold places"""
    _now_ns: int = 0

    def __post_init__(self) -> None:
        self.nic, self.queue = Series(self.labels), Series(self.labels)
        self._budget = self.most

    def begin(self, now_ns: int, elapsed_ns: int) -> None:
        """Start counting an interval that ended at `now_ns` (CLOCK_MONOTONIC)."""
        self._now_ns = now_ns
        self.before = self.counted
        self.ended.clear()
        fading = 0.5 ** (elapsed_ns / HALF_LIFE_NS)
        self._budget = min(self.most, self._budget + self.most * NEW_PER_HOUR * elapsed_ns / HOUR_NS)
        self.waiting = {key: weight * fading for key, weight in self.waiting.items()}
        for series in self.places.values():
            series.weight *= fading
            series.gained_packets = series.gained_bytes = 0
        for series in (self.other, self.nic, self.queue):
            series.gained_packets = series.gained_bytes = 0
        self.nic_is_known = self.queue_is_known = False

    def keys(self, slot: int) -> Mapping[bytes, Series]:
        """Return series by the packed keys that the kernel uses for them."""
        if slot == 0:
            return self.places
        number = bytes([slot])
        return {key[:SLOT_OFFSET] + number + key[SLOT_OFFSET + 1 :]: series for key, series in self.places.items()}

    def holds(self, labels: Labels) -> bool:
        """Return whether a flow with these labels holds a place."""
        return labels in self._labels

    def count(self, counts: InterfaceCounts) -> None:
        """Add the interface's counters."""
        total, unattributed, filtered, fragments = self.counted
        self.counted = (
            total + counts.total,
            unattributed + counts.unattributed_total,
            filtered + counts.filtered,
            fragments + counts.filtered_fragments,
        )
        if counts.nic is not None:
            self.nic.gained_packets += counts.nic.packets
            self.nic.gained_bytes += counts.nic.bytes
            self.nic_is_known = True
        if counts.qdisc_drops is not None:
            self.queue.gained_packets += counts.qdisc_drops
            self.queue_is_known = True

    def choose(self, table: FlowTable, indexes: Sequence[int], holders: Sequence[Series | None]) -> None:
        """Admit flows; `holders` has the series, if any, of each flow in the table."""
        for series in self.places.values():
            if series.gained_bytes > series.weight:
                series.weight = series.gained_bytes
        without = [index for index in indexes if holders[index] is None]
        if not without:
            return
        admitted = self._admit(table, self._largest(table, without))
        if admitted < len(without) or self.ended:
            total, shown = table.sum(indexes), self.places.values()
            self.other.gained_packets = total.packets - sum(series.gained_packets for series in shown)
            self.other.gained_bytes = total.bytes - sum(series.gained_bytes for series in shown)

    def _largest(self, table: FlowTable, indexes: list[int]) -> list[int]:
        """Return candidates for a place, in the order in which they get one."""
        size = table.byte_counts
        if len(self.places) >= self.most:
            bar = OUTWEIGHS * min(series.weight for series in self.places.values())
            indexes = [index for index in indexes if size[index] > bar]
        largest = heapq.nlargest(self.most, indexes, key=size.__getitem__)
        if self._budget >= len(largest):
            self.waiting.clear()
            return largest
        weights = {index: size[index] + self.waiting.get(self._key(table, index), 0.0) for index in largest}
        self.waiting = {self._key(table, index): weight for index, weight in weights.items()}
        return sorted(weights, key=weights.__getitem__, reverse=True)

    @staticmethod
    def _key(table: FlowTable, index: int) -> bytes:
        """Return a flow's packed key without the slot, which may change."""
        key = table.packed_key(index)
        return key[:SLOT_OFFSET] + b"\0" + key[SLOT_OFFSET + 1 :]

    def _admit(self, table: FlowTable, candidates: Sequence[int]) -> int:
        """Give places to candidates as long as they outweigh the holders and are paid for; return how many got one."""
        packets, size = table.packet_counts, table.byte_counts
        free = self.most - len(self.places)
        lightest = iter(sorted(self.places, key=lambda key: self.places[key].weight) if free < len(candidates) else ())
        admitted = 0
        for index in candidates:
            key = self._key(table, index)
            if key in self.places:  # the interface disappeared and returned in another slot within the interval
                self.places[key].gained_packets += packets[index]
                self.places[key].gained_bytes += size[index]
                admitted += 1
                continue
            labels = self.labels_of(key)
            # two keys with the same labels must not share a series
            if labels in self._labels or not self._is_paid(key):
                continue
            if free > 0:
                free -= 1
            else:
                holder = next(lightest, None)
                if holder is None or size[index] <= OUTWEIGHS * self.places[holder].weight:
                    break
                self._end(holder)
            self._open(key, labels, PacketCount(packets[index], size[index]))
            admitted += 1
        return admitted

    def _is_paid(self, key: bytes) -> bool:
        """Return whether a flow's series is not new, or the budget has room for it."""
        return key in self.known or self._budget >= 1

    def _open(self, key: bytes, labels: Labels, gained: PacketCount) -> None:
        if key not in self.known:
            self._budget -= 1
        self.known.pop(key, None)
        self.known[key] = None  # the latest
        if len(self.known) > REMEMBERED * self.most:
            del self.known[next(iter(self.known))]
        self.waiting.pop(key, None)
        total, active_ns = self.remembered.pop(key, (NOTHING, 0))
        series = self.places[key] = Series(labels, total if self._is_kept(active_ns) else NOTHING)
        series.gained_packets, series.gained_bytes = gained
        series.weight = gained.bytes
        self._labels.add(labels)

    def _end(self, key: bytes) -> None:
        """Displace a flow; its gain in this interval goes to `other`."""
        series = self.places.pop(key)
        self._labels.discard(series.labels)
        series.gained_packets = series.gained_bytes = 0
        self.ended.append(series)
        self.remembered[key] = PacketCount(series.packets, series.bytes), series.active_ns

    def _is_kept(self, active_ns: int) -> bool:
        return active_ns > self._now_ns - KEPT_NS

    def settle(self) -> None:
        """Add gains to the totals; expire idle flows."""
        now_ns, idle = self._now_ns, []
        long_ago = now_ns - KEPT_NS
        for key, series in self.places.items():
            if series.gained_packets:  # Series.settle(), without a call for each
                series.packets += series.gained_packets
                series.bytes += series.gained_bytes
                series.active_ns = now_ns
            elif series.active_ns <= long_ago:
                idle.append(key)
        self.other.settle(self._now_ns)
        self.nic.settle(self._now_ns)
        self.queue.settle(self._now_ns)
        for key in idle:
            series = self.places.pop(key)
            self._labels.discard(series.labels)
            self.ended.append(series)
        while self.remembered:
            oldest = next(iter(self.remembered))
            if len(self.remembered) <= REMEMBERED * self.most and self._is_kept(self.remembered[oldest][1]):
                break
            del self.remembered[oldest]
