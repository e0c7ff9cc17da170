"""What the pane of owners shows: the flows of an interval by owner, and what of them is wanted."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from xtrace.model.flow import FlowSnapshot
from xtrace.model.flow_owners import FlowOwner
from xtrace.model.owner_rows import RankedOwners
from xtrace.model.words import Direction
from xtrace.sinks.live.flows import Part, Shown
from xtrace.sinks.live.pane import View
from xtrace.sinks.text.units import counted

LISTED = 1000
"""Owners with a row of their own."""


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
    """The owners of an interval: by name those that are no processes and the largest processes, the rest together."""

    shown: Shown
    ranked: RankedOwners
    parts: Mapping[FlowOwner, Sequence[Part]]
    packed: Mapping[FlowOwner, Collection[bytes]]
    """what the programs know apart, and names do not: struct flow_owner"""
    sizes: Mapping[FlowOwner, int]
    """bytes"""
    left: Sequence[Part]
    """of those without a name here"""
    left_owners: int

    @classmethod
    def of(cls, snapshot: FlowSnapshot) -> Gathered:
        """Name the largest: to name all of tens of thousands would take longer than everything else."""
        shown, ranked = Shown.of(snapshot), snapshot.flows.owner_rows().ranked
        parts: defaultdict[FlowOwner, list[Part]] = defaultdict(list)
        packed: defaultdict[FlowOwner, set[bytes]] = defaultdict(set)
        named = min(len(ranked), ranked.nobodies + LISTED)
        for rank in range(named):
            rows = ranked[rank].rows
            owner = snapshot.owner_named(rows[0].owner)
            packed[owner].add(rows[0].owner)
            parts[owner] += shown.parts(rows)
        sizes = {owner: sum(row.bytes for _, row in some) for owner, some in parts.items()}
        left = shown.parts(ranked.rest(named))
        return cls(shown, ranked, parts, packed, sizes, left, len(ranked) - named)

    def find(self, owner: FlowOwner, packed: Iterable[bytes]) -> Sequence[Part]:
        """Return the parts of an owner, which may have no name here, but is one of these."""
        if owner in self.parts:
            return self.parts[owner]
        return [part for each in packed for part in self.shown.parts(self.ranked.of(each).rows)]

    def largest(self, number: int) -> Sequence[FlowOwner]:
        """Return the largest owners by bytes, in order."""
        return heapq.nlargest(number, self.sizes, key=self.sizes.__getitem__)

    def listed(self) -> Sequence[Owned]:
        """Return the largest owners, and a row for all others."""
        largest = self.largest(LISTED)
        found = [Owned(owner, self.parts[owner]) for owner in largest]
        small = self.parts.keys() - set(largest)
        left = [*self.left, *(part for owner in small for part in self.parts[owner])]
        if left:
            found.append(Owned(None, left, self.left_owners + len(small)))
        return found
