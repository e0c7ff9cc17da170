"""One interface: rates, largest flows, hosts, types, ports, owners."""

from __future__ import annotations

from collections import Counter

from xtrace.report.charts import matrix, rates
from xtrace.report.interfaces import Flow, InterfaceSums, Owner, Service
from xtrace.report.markup import NUMBER, TEXT, bar, number, safe, section, size, table
from xtrace.report.sums import Count, Largest

DIRECTION_NAMES = {"ingress": "in", "egress": "out"}
MOST_FLOWS, MOST_HOSTS, MOST_SERVICES, MOST_OWNERS = 25, 12, 15, 15
SUMS = [("PACKETS", NUMBER), ("BYTES", NUMBER), ("SIZE", NUMBER), ("SHARE OF FLOWS", TEXT)]


def interface_section(anchor: str, name: str, sums: InterfaceSums) -> str:
    """Return the section of an interface."""
    watched = {DIRECTION_NAMES[way]: each.rates for way, each in sums.ways.items() if each.intervals}
    if not sums.is_detailed:
        note = '<p class="note">Too many interfaces: of this one, only totals and rates were kept.</p>'
        return section(anchor, f"Interface {safe(name)}", rates(f"Traffic of {name}", watched), note)
    return section(
        anchor,
        f"Interface {safe(name)}",
        rates(f"Traffic of {name}", watched),
        _flows(sums.flows),
        _hosts(sums.pairs),
        _types(sums.types),
        _services(sums.services),
        _owners(sums.owners),
    )


def _row(cells: list[str], count: Count, whole: int) -> list[str]:
    return [*cells, number(count.packets), number(count.bytes), size(count.bytes), bar(count.bytes, whole)]


def _rest(rest: Count, total: Count, columns: int) -> list[list[str]]:
    """Return a row of everything not shown, so that the table closes."""
    return [_row(["all others", *[""] * (columns - 1)], rest, total.bytes)] if rest.packets else []


def _doubt(largest: Largest[Flow] | Largest[Owner] | Largest[Service]) -> str:
    """Return how exact the counts are when there were too many to keep them all."""
    if not largest.doubt:
        return ""
    return (
        f"There were too many to keep all: {largest.folded_keys:,} of the smallest are in the sum of all others, and a"
        f" count may lack up to {largest.doubt:,} bytes that it had before. The total is exact."
    )


def _flows(flows: Largest[Flow]) -> str:
    chosen, rest = flows.top(MOST_FLOWS)
    total = flows.total()
    if not chosen:
        return ""
    rows = [
        _row(
            [
                f'<span class="flow">{safe(flow.source)} → {safe(flow.destination)}</span>',
                DIRECTION_NAMES[flow.direction],
                safe(f"{flow.traffic_type} {flow.detail}".strip()),
            ],
            count,
            total.bytes,
        )
        for flow, count in chosen
    ]
    headings = [("FLOW", TEXT), ("DIRECTION", TEXT), ("TYPE", TEXT), *SUMS]
    return table("Largest flows", headings, rows + _rest(rest, total, 3), _doubt(flows))


def _hosts(pairs: Largest[tuple[str, str]]) -> str:
    """Return the matrix of the hosts with the most bytes."""
    cells, _ = pairs.top(MOST_HOSTS**2 * 4)
    weights: Counter[str] = Counter()
    for (source, destination), count in cells:
        weights[source] += count.bytes
        weights[destination] += count.bytes
    hosts = [host for host, _ in weights.most_common(MOST_HOSTS)]
    chosen = {ends: count.bytes for ends, count in cells if ends[0] in hosts and ends[1] in hosts}
    total = pairs.total().bytes
    shown = sum(chosen.values())
    picture = matrix("Bytes from host (row) to host (column), in both directions of the interface", hosts, chosen)
    if not picture or shown == total:
        return picture
    return f'{picture}<p class="note">Shown are {size(shown)} of {size(total)}; the rest is between other hosts.</p>'


def _types(types: Largest[str]) -> str:
    chosen, _ = types.top(64)
    total = types.total()
    rows = [_row([safe(kind)], count, total.bytes) for kind, count in chosen]
    return table("Traffic types", [("TYPE", TEXT), *SUMS], rows) if rows else ""


def _services(services: Largest[Service]) -> str:
    chosen, rest = services.top(MOST_SERVICES)
    total = services.total()
    if not chosen:
        return ""
    rows = [_row([safe(f"{kind} {port}")], count, total.bytes) for (kind, port), count in chosen]
    note = f"The lower port of each flow. {_doubt(services)}".strip()
    return table("Ports", [("PORT", TEXT), *SUMS], rows + _rest(rest, total, 1), note)


def _owners(owners: Largest[Owner]) -> str:
    chosen, rest = owners.top(MOST_OWNERS)
    total = owners.total()
    if not chosen:
        return ""
    rows = [_row([safe(owner.name), safe(owner.group)], count, total.bytes) for owner, count in chosen]
    headings = [("OWNER", TEXT), ("POD, CONTAINER OR UNIT", TEXT), *SUMS]
    return table("Owners", headings, rows + _rest(rest, total, 2), _doubt(owners))
