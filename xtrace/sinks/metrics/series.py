"""Which flows of an interface have series of their own, and what the rest adds up to.

At most `most` flows hold a place, each until it has been idle for KEPT_NS. A flow without one takes a free
place, or that of a flow it outweighs: a flow weighs its bytes per interval, halved with every
HALF_LIFE_NS since, and must be outweighed twice. So flows of similar size do not take turns, and
short ones do not make new series without end. What has no place counts in `other`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xtrace.model.flow import NOTHING, SLOT_OFFSET, FlowTable, InterfaceCounts, PacketCount
from xtrace.sinks.metrics.sample import Labels

KEPT_NS = 300 * 10**9
"""A flow that comes back within this time continues its counters."""
HALF_LIFE_NS = 60 * 10**9
OUTWEIGHS = 2
REMEMBERED = 5
"""Flows that lost their place and whose counters are kept, as a multiple of the places."""


Counted = tuple[PacketCount, PacketCount, PacketCount]
"""All packets, unattributed ones, filtered ones."""


class Series:
    """The counters of one flow, or of all others together."""

    __slots__ = ("active_ns", "bytes", "gained_bytes", "gained_packets", "labels", "packets", "weight", "written")

    def __init__(self, labels: Labels, total: PacketCount = NOTHING) -> None:
        self.labels = labels
        self.packets, self.bytes = total
        self.gained_packets = self.gained_bytes = 0
        """in this interval; not in the sums yet"""
        self.weight = 0.0
        self.active_ns = 0
        """end of the last interval it gained in, CLOCK_MONOTONIC"""
        self.written = -1
        """number of the last tick it had a sample in"""

    def settle(self, now_ns: int) -> None:
        """Add what was gained."""
        self.packets += self.gained_packets
        self.bytes += self.gained_bytes
        self.active_ns = now_ns


@dataclass
class Group:
    """One interface and direction."""

    most: int
    other: Series
    labels: Labels
    """of the interface's own counters"""
    labels_of: Callable[[bytes], Labels]
    """a packed key to the labels of its series"""
    nic: Series = field(init=False)
    """what the interface counted itself"""
    nic_is_known: bool = False
    """in this interval"""
    queue: Series = field(init=False)
    """what its queue dropped"""
    queue_is_known: bool = False
    """in this interval"""
    written: int = -1
    """number of the last tick its own counters had samples in"""
    counted: Counted = (NOTHING, NOTHING, NOTHING)
    before: Counted = (NOTHING, NOTHING, NOTHING)
    """the same when the interval began"""
    places: dict[bytes, Series] = field(default_factory=dict)
    remembered: dict[bytes, tuple[PacketCount, int]] = field(default_factory=dict)
    """of flows that lost their place: counters and when they were last active, longest ago first"""
    ended: list[Series] = field(default_factory=list)
    """those that lost their place in this tick, or gave it up"""
    _labels: set[Labels] = field(default_factory=set)
    """of those that hold places"""
    _now_ns: int = 0

    def __post_init__(self) -> None:
        self.nic, self.queue = Series(self.labels), Series(self.labels)

    def begin(self, now_ns: int, elapsed_ns: int) -> None:
        """An interval that ended at `now_ns` (CLOCK_MONOTONIC) is to be counted."""
        self._now_ns = now_ns
        self.before = self.counted
        self.ended.clear()
        fading = 0.5 ** (elapsed_ns / HALF_LIFE_NS)
        for series in self.places.values():
            series.weight *= fading
            series.gained_packets = series.gained_bytes = 0
        for series in (self.other, self.nic, self.queue):
            series.gained_packets = series.gained_bytes = 0
        self.nic_is_known = self.queue_is_known = False

    def keys(self, slot: int) -> Mapping[bytes, Series]:
        """The flows that hold places, under the keys that the kernel has for them."""
        if slot == 0:
            return self.places
        number = bytes([slot])
        return {key[:SLOT_OFFSET] + number + key[SLOT_OFFSET + 1 :]: series for key, series in self.places.items()}

    def count(self, counts: InterfaceCounts) -> None:
        """Add what the interface counted in all."""
        total, unattributed, filtered = self.counted
        self.counted = total + counts.total, unattributed + counts.unattributed_total, filtered + counts.filtered
        if counts.nic is not None:
            self.nic.gained_packets += counts.nic.packets
            self.nic.gained_bytes += counts.nic.bytes
            self.nic_is_known = True
        if counts.qdisc_drops is not None:
            self.queue.gained_packets += counts.qdisc_drops
            self.queue_is_known = True

    def choose(self, table: FlowTable, indexes: Sequence[int], holders: Sequence[Series | None]) -> None:
        """Give places to those that deserve one; `holders` are the series of the table's flows that have them."""
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
        """Those that may get a place, largest first."""
        size = table.byte_counts
        if len(self.places) >= self.most:
            bar = OUTWEIGHS * min(series.weight for series in self.places.values())
            indexes = [index for index in indexes if size[index] > bar]
        return heapq.nlargest(self.most, indexes, key=size.__getitem__)

    def _admit(self, table: FlowTable, candidates: Sequence[int]) -> int:
        """Places for candidates, largest first, as long as they outweigh who is there; how many got one."""
        packets, size = table.packet_counts, table.byte_counts
        free = self.most - len(self.places)
        lightest = iter(sorted(self.places, key=lambda key: self.places[key].weight) if free < len(candidates) else ())
        admitted = 0
        for index in candidates:
            key = table.packed_key(index)
            # the slot may change, and so is no part of what names a flow here
            key = key[:SLOT_OFFSET] + b"\0" + key[SLOT_OFFSET + 1 :]
            if key in self.places:  # the interface went and came back within the interval, in another slot
                self.places[key].gained_packets += packets[index]
                self.places[key].gained_bytes += size[index]
                admitted += 1
                continue
            labels = self.labels_of(key)
            if labels in self._labels:  # two keys of the same labels must not share a series
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

    def _open(self, key: bytes, labels: Labels, gained: PacketCount) -> None:
        total, active_ns = self.remembered.pop(key, (NOTHING, 0))
        series = self.places[key] = Series(labels, total if self._is_kept(active_ns) else NOTHING)
        series.gained_packets, series.gained_bytes = gained
        series.weight = gained.bytes
        self._labels.add(labels)

    def _end(self, key: bytes) -> None:
        """Take the place; what the flow gained in this interval is part of `other`."""
        series = self.places.pop(key)
        self._labels.discard(series.labels)
        series.gained_packets = series.gained_bytes = 0
        self.ended.append(series)
        self.remembered[key] = PacketCount(series.packets, series.bytes), series.active_ns

    def _is_kept(self, active_ns: int) -> bool:
        return active_ns > self._now_ns - KEPT_NS

    def settle(self) -> None:
        """Add what was gained; forget what has been idle for long."""
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
