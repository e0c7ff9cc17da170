"""Where snapshots go. Every sink has the same few methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xtrace.model.flow import NOTHING, FlowSnapshot, Interface, PacketCount
from xtrace.model.snapshot import Snapshot

if TYPE_CHECKING:  # the help and the version need not wait for it
    from xtrace.model.nccl import CallTotals, NcclSnapshot


@dataclass(frozen=True)
class Run:
    """What is known when the first interval starts."""

    version: str
    interval_s: float
    modes: tuple[str, ...]
    flows: FlowSetup | None = None
    """with mode xdp"""
    nccl: NcclSetup | None = None
    """with mode nccl"""


@dataclass(frozen=True)
class FlowSetup:
    """How mode xdp runs."""

    interfaces: tuple[Interface, ...]
    features: tuple[str, ...]
    filters: tuple[str, ...]
    map_memory: int
    """bytes of kernel memory all maps take"""
    max_flows: int


@dataclass(frozen=True)
class NcclSetup:
    """How mode nccl runs."""

    attach: str
    """uprobe_multi or perf_event"""
    max_keys: int
    map_memory: int
    """bytes of kernel memory all maps take"""


Where = tuple[str, str]
"""Interface name and direction."""

MOST_TOTALS = 4096
"""Interfaces with totals of their own: where they come and go for ever, the later ones share those of `other`."""


@dataclass
class Totals:
    """What a whole run adds up to, by interface name and direction."""

    intervals: int = 0
    total: dict[Where, PacketCount] = field(default_factory=dict)
    unattributed: dict[Where, PacketCount] = field(default_factory=dict)
    filtered: dict[Where, PacketCount] = field(default_factory=dict)
    nccl: CallTotals | None = None
    """with mode nccl"""

    def add_calls(self, snapshot: NcclSnapshot) -> None:
        """Add one interval's NCCL calls."""
        self.nccl = snapshot.totals if self.nccl is None else self.nccl + snapshot.totals

    def add(self, snapshot: FlowSnapshot) -> None:
        """Add one interval's packets."""
        for interface, counts in snapshot.interfaces:
            where = (interface.name, interface.direction)
            if where not in self.total and len(self.total) >= MOST_TOTALS:
                where = ("other", interface.direction)
            for sums, count in (
                (self.total, counts.total),
                (self.unattributed, counts.unattributed_total),
                (self.filtered, counts.filtered),
            ):
                sums[where] = sums.get(where, NOTHING) + count


class Sink(Protocol):
    """Receives the run's start, each snapshot, and the run's end, in this order."""

    def start(self, run: Run) -> None:
        """The first interval starts."""

    def write(self, snapshot: Snapshot) -> None:
        """One interval of one monitor has ended. Snapshots of kinds that a sink does not know it passes over."""

    def flush(self) -> None:
        """All snapshots of this tick have been written."""

    def end(self, totals: Totals) -> None:
        """The last interval has been written."""
