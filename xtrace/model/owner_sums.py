"""Flows added up by their owners."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from xtrace.model.flow import FlowSnapshot, Interface, PacketCount
from xtrace.model.flow_owners import FlowOwner


@dataclass(frozen=True)
class OwnerSum:
    """What one owner's flows carried across an interface in one direction."""

    owner: FlowOwner
    flows: int
    count: PacketCount


@dataclass(frozen=True)
class OwnerSums:
    """The largest owners by bytes, largest first, and the rest together."""

    flows: int
    """of all owners"""
    shown: tuple[OwnerSum, ...]
    other_flows: int
    other: PacketCount


def by_owner(snapshot: FlowSnapshot, interface: Interface, top: int) -> OwnerSums:
    """Return the sums of an interface's flows by owner: the `top` largest (0: all), and all others together."""
    rows = snapshot.flows.owner_rows().by_place.get((interface.slot, interface.direction.bit), ())
    # what differs for the programs may have the same name
    sums: defaultdict[FlowOwner, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        entry = sums[snapshot.owner_named(row.owner)]
        entry[0] += row.flows
        entry[1] += row.packets
        entry[2] += row.bytes
    found = [OwnerSum(owner, flows, PacketCount(count, size)) for owner, (flows, count, size) in sums.items()]
    found.sort(key=lambda each: each.count.bytes, reverse=True)
    rest = found[top:] if top else []
    return OwnerSums(
        sum(each.flows for each in found),
        tuple(found[:top] if top else found),
        sum(each.flows for each in rest),
        PacketCount(sum(each.count.packets for each in rest), sum(each.count.bytes for each in rest)),
    )
