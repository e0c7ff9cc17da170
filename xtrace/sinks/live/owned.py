"""What the pane of owners shows: the flows of an interval by owner, and what of them is wanted."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xtrace.model.flow import FlowSnapshot
from xtrace.model.flow_owners import FlowOwner
from xtrace.model.owner_rows import OwnerRow
from xtrace.model.words import Direction
from xtrace.sinks.live.flows import Shown, Watched
from xtrace.sinks.live.pane import View
from xtrace.sinks.text.units import counted

LISTED = 1000
"""Owners with a row of their own."""

Part = tuple[Watched, OwnerRow]
"""What an owner's flows carried across an interface in one direction."""


class Owned(NamedTuple):
    """An owner, with the parts that are shown of it."""

    owner: FlowOwner | None
    """None: all those without a row of their own"""
    parts: Sequence[Part]
    owners: int = 1

    @property
    def name(self) -> str:
        """One word for a person."""
        return self.owner.name if self.owner else counted(self.owners, "more owner")

    def rate(self, *directions: Direction) -> float:
        """Return bytes per second."""
        return sum(row.bytes / at.seconds for at, row in self.parts if at.interface.direction in directions)

    @property
    def packets(self) -> float:
        """Packets per second."""
        return sum(row.packets / at.seconds for at, row in self.parts)

    @property
    def flows(self) -> int:
        """Their number; those of both directions are two."""
        return sum(row.flows for _, row in self.parts)

    def matching(self, view: View) -> Owned | None:
        """Return what is wanted of it: all if its name is, else what the interfaces carried that are; or None."""
        owner, chosen = self.owner, view.chosen
        is_wanted = owner is not None and chosen.named(
            owner.name, owner.command, owner.unit, owner.container, owner.pod_name, str(owner.how)
        )
        parts = [
            part
            for part in self.parts
            if view.shows(part[0].interface.direction) and (is_wanted or chosen.named(part[0].interface.name))
        ]
        return self._replace(parts=parts) if parts else None


class Gathered(NamedTuple):
    """The owners of an interval."""

    shown: Shown
    parts: Mapping[FlowOwner, Sequence[Part]]
    sizes: Mapping[FlowOwner, int]
    """bytes"""

    @classmethod
    def of(cls, snapshot: FlowSnapshot) -> Gathered:
        """Add up what the programs know apart, and names do not."""
        shown = Shown.of(snapshot)
        parts: dict[FlowOwner, list[Part]] = {}
        sizes: Counter[FlowOwner] = Counter()
        for row in snapshot.flows.owner_rows().rows:
            owner = snapshot.owner_named(row.owner)
            parts.setdefault(owner, []).append((shown.watched[row.slot, row.egress], row))
            sizes[owner] += row.bytes
        return cls(shown, parts, sizes)

    def largest(self, number: int) -> Sequence[FlowOwner]:
        """Return the largest owners by bytes, in order."""
        return heapq.nlargest(number, self.sizes, key=self.sizes.__getitem__)

    def listed(self) -> Sequence[Owned]:
        """Return the largest owners, and a row for all others."""
        largest = self.largest(LISTED)
        found = [Owned(owner, self.parts[owner]) for owner in largest]
        left = self.parts.keys() - set(largest)
        if left:
            found.append(Owned(None, [part for owner in left for part in self.parts[owner]], len(left)))
        return found
