"""Records of mode xdp: for each interface its flows, the rest beyond --top, its counts; interfaces without a hook."""

from __future__ import annotations

from collections.abc import Iterator

from xtrace.model.flow import FlowSnapshot, Interface, InterfaceCounts, PacketCount, Selection, select
from xtrace.model.flow_totals import FlowSetup, FlowTotals
from xtrace.model.owner_sums import by_owner
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Direction
from xtrace.sinks.jsonl.flows import flow_records, owner_record
from xtrace.sinks.jsonl.lines import rendered
from xtrace.sinks.kinds import JsonOptions, Record
from xtrace.sinks.render import timestamp, valid_unicode


class FlowJson:
    """Renders records of type flow, other, interface and hook."""

    def __init__(self, options: JsonOptions) -> None:
        self._options = options

    def setup(self, setup: FlowSetup) -> Record:
        """Return hooks, features, filters and table size."""
        hooks = [
            {"interface": valid_unicode(i.name), "direction": i.direction, "hook": i.hook, "xdp_mode": i.xdp_mode}
            for i in setup.interfaces
        ]
        return {
            "hooks": hooks,
            "features": list(setup.features),
            "filters": list(setup.filters),
            "max_flows": setup.max_flows,
            "map_memory_bytes": setup.map_memory,
        }

    def lines(self, snapshot: FlowSnapshot) -> Iterator[bytes]:
        """Yield all records of one interval."""
        for interface, counts in snapshot.interfaces:
            common = {
                "ts": timestamp(snapshot.end_ns),
                "interval_s": round((counts.interval_ns or snapshot.interval_ns) / 1e9, 3),
                **self._options.identity,
                "interface": valid_unicode(interface.name),
                "direction": interface.direction,
            }
            if self._options.by_owner:
                yield from rendered(owner_records(snapshot, interface, counts, self._options.top, common))
                continue
            selection = select(snapshot, interface, self._options.top)
            yield from flow_records(snapshot, interface, selection.chosen, common)
            yield from rendered(summary_records(interface, counts, selection, common))
        yield from rendered(hook_records(snapshot, self._options.identity))

    def totals(self, totals: FlowTotals) -> Record:
        """Return sums by interface and direction."""
        interfaces = []
        for where, total in totals.total.items():
            counts = _loss_fields(
                total, totals.unattributed[where], totals.filtered[where], totals.filtered_fragments[where]
            )
            interfaces.append({"interface": valid_unicode(where[0]), "direction": where[1], **counts})
        return {"interfaces": interfaces}


def summary_records(
    interface: Interface, counts: InterfaceCounts, selection: Selection, common: Record
) -> Iterator[Record]:
    """Yield the records after an interface's flows: the sum of the flows not shown (--top), and the counts."""
    if selection.other_flows:
        packets, size = selection.other
        yield {"type": "other", **common, "flows": selection.other_flows, "packets": packets, "bytes": size}
    yield interface_record(interface, counts, selection.flows, common)


def owner_records(
    snapshot: FlowSnapshot, interface: Interface, counts: InterfaceCounts, top: int, common: Record
) -> Iterator[Record]:
    """Yield the records of an interface with its flows added up by owner (--by owner)."""
    sums = by_owner(snapshot, interface, top)
    for each in sums.shown:
        packets, size = each.count
        fields = {"flows": each.flows, "packets": packets, "bytes": size, "units": interface.units}
        yield {"type": "owner", **common, **fields, **owner_record(each.owner)}
    selection = Selection(sums.flows, (), sums.other_flows, sums.other)
    yield from summary_records(interface, counts, selection, common)


def hook_records(snapshot: FlowSnapshot, identity: Record) -> Iterator[Record]:
    """One record per selected interface that is not attached, and one per interface that is attached again."""
    common = {"type": "hook", "ts": timestamp(snapshot.end_ns), **identity}
    for name in snapshot.reattached:
        yield {**common, "interface": valid_unicode(name), "attached": True, "reason": None, "detail": None}
    for absent in snapshot.unattached:
        name, detail = valid_unicode(absent.name), valid_unicode(absent.detail)
        yield {**common, "interface": name, "attached": False, "reason": absent.reason, "detail": detail}


def interface_record(interface: Interface, counts: InterfaceCounts, flows: int, common: Record) -> Record:
    """Return the record of one interface and direction: flows + unattributed + filtered, + fragments == all."""
    unattributed = [
        {"traffic_type": name, "packets": count.packets, "bytes": count.bytes}
        for name, count in zip(TRAFFIC_TYPES, counts.unattributed, strict=True)
        if count.packets
    ]
    return {
        "type": "interface",
        **common,
        **_loss_fields(counts.total, counts.unattributed_total, counts.filtered, counts.filtered_fragments),
        "flows": flows,
        "unattributed": unattributed,
        "units": interface.units,
        "nic_packets": counts.nic.packets if counts.nic else None,
        "nic_bytes": counts.nic.bytes if counts.nic else None,
        "hook": interface.hook,
        "xdp_mode": interface.xdp_mode,
        "coverage": counts.coverage,
        "up": interface.is_up,
        **({"qdisc_drops": counts.qdisc_drops} if interface.direction is Direction.EGRESS else {}),
    }


def _loss_fields(
    total: PacketCount, unattributed: PacketCount, filtered: PacketCount, fragments: PacketCount
) -> Record:
    fields = dict(zip(("filtered_fragment_packets", "filtered_fragment_bytes"), fragments, strict=True))
    return {
        "packets": total.packets,
        "bytes": total.bytes,
        "unattributed_packets": unattributed.packets,
        "unattributed_bytes": unattributed.bytes,
        "filtered_packets": filtered.packets,
        "filtered_bytes": filtered.bytes,
        **(fields if fragments.packets else {}),
    }
