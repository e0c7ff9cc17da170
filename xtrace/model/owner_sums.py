"""Flows added up by their owners."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from xtrace.model.flow import FlowSnapshot, Interface, PacketCount
from xtrace.model.flow_owners import UNKNOWN_OWNER, FlowOwner


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
    table = snapshot.flows
    indexes = table.indexes(interface.slot, interface.direction)
    packets, sizes = table.packet_counts, table.byte_counts
    sums: defaultdict[FlowOwner, list[int]] = defaultdict(lambda: [0, 0, 0])
    for index in indexes:
        entry = sums[snapshot.owner(index) or UNKNOWN_OWNER]
        entry[0] += 1
        entry[1] += packets[index]
        entry[2] += sizes[index]
    found = [OwnerSum(owner, flows, PacketCount(count, size)) for owner, (flows, count, size) in sums.items()]
    found.sort(key=lambda each: each.count.bytes, reverse=True)
    rest = found[top:] if top else []
    return OwnerSums(
        len(indexes),
        tuple(found[:top] if top else found),
        sum(each.flows for each in rest),
        PacketCount(sum(each.count.packets for each in rest), sum(each.count.bytes for each in rest)),
    )
