"""Setup and totals of mode xdp over a whole run."""

from __future__ import annotations

from dataclasses import dataclass, field

from xtrace.model.flow import NOTHING, FlowSnapshot, Interface, PacketCount
from xtrace.model.snapshot import Setup

Where = tuple[str, str]
"""Interface name and direction."""

MOST_TOTALS = 4096
"""Interfaces with their own totals; later ones share `other`, so that memory stays bounded."""


@dataclass(frozen=True)
class FlowSetup(Setup):
    """How mode xdp runs."""

    interfaces: tuple[Interface, ...] = ()
    features: tuple[str, ...] = ()
    """kernel features in use"""
    filters: tuple[str, ...] = ()
    """as given by the user"""
    max_flows: int = 0
    """capacity of the flow table"""
    has_owners: bool = False
    """whether the owners of flows are found out"""


@dataclass
class FlowTotals:
    """Packets and bytes by interface name and direction."""

    total: dict[Where, PacketCount] = field(default_factory=dict)
    unattributed: dict[Where, PacketCount] = field(default_factory=dict)
    filtered: dict[Where, PacketCount] = field(default_factory=dict)
    filtered_fragments: dict[Where, PacketCount] = field(default_factory=dict)

    def add(self, snapshot: FlowSnapshot) -> None:
        """Add one interval."""
        for interface, counts in snapshot.interfaces:
            where = (interface.name, interface.direction)
            if where not in self.total and len(self.total) >= MOST_TOTALS:
                where = ("other", interface.direction)
            for sums, count in (
                (self.total, counts.total),
                (self.unattributed, counts.unattributed_total),
                (self.filtered, counts.filtered),
                (self.filtered_fragments, counts.filtered_fragments),
            ):
                sums[where] = sums.get(where, NOTHING) + count
