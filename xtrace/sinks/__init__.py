"""Where snapshots go. Every sink has the same few methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from xtrace.flow import Interface, PacketCount, Snapshot


@dataclass(frozen=True)
class Run:
    """What is known when the first interval starts."""

    version: str
    interval_s: float
    interfaces: tuple[Interface, ...]
    features: tuple[str, ...]
    map_memory: int
    """bytes of kernel memory all maps take"""
    max_flows: int


@dataclass
class Totals:
    """What a whole run adds up to, per interface and direction."""

    intervals: int = 0
    total: dict[Interface, PacketCount] = field(default_factory=dict)
    unattributed: dict[Interface, PacketCount] = field(default_factory=dict)
    filtered: dict[Interface, PacketCount] = field(default_factory=dict)

    def add(self, snapshot: Snapshot) -> None:
        """Add one interval."""
        self.intervals += 1
        for interface, counts in snapshot.interfaces:
            for sums, count in (
                (self.total, counts.total),
                (self.unattributed, counts.unattributed_total),
                (self.filtered, counts.filtered),
            ):
                sums[interface] = sums.get(interface, PacketCount(0, 0)) + count


class Sink(Protocol):
    """Receives the run's start, each snapshot, and the run's end, in this order."""

    def start(self, run: Run) -> None:
        """The first interval starts."""

    def write(self, snapshot: Snapshot) -> None:
        """One interval has ended."""

    def end(self, totals: Totals) -> None:
        """The last interval has been written."""
