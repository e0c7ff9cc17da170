"""The page: what was watched, what is remarkable, then interfaces, RDMA ports and NCCL."""

from __future__ import annotations

from collections.abc import Iterator

from xtrace.report.gathered import Gathered
from xtrace.report.interface_section import DIRECTION_NAMES, interface_section
from xtrace.report.interfaces import length_of
from xtrace.report.job_sections import nccl_section, rdma_section
from xtrace.report.markup import NUMBER, TEXT, moment, number, rate, safe, section, share, size, table
from xtrace.report.style import CSS
from xtrace.report.tcp_section import followed_section, tcp_section
from xtrace.sinks.text.units import counted

Finding = tuple[str, str]
"""Class and HTML."""
KINDS = {"ok": "OK", "warn": "Note", "bad": "Problem"}
"""Words for the classes: nothing is told by color alone."""


def page(gathered: Gathered, source: str) -> str:
    """Return the whole page. `source`: the name of the file that was read."""
    hosts = sorted({name[0] for name in (*gathered.interfaces, *gathered.ports)} | set(_start_hosts(gathered)))
    title = f"Network report: {', '.join(hosts[:4]) or 'no records'}{' and others' if len(hosts) > 4 else ''}"
    parts = [
        (section("findings", "Findings", _findings_list(gathered)), "Findings"),
        (section("interfaces", "Interfaces", _totals(gathered)), "Interfaces"),
        *interface_sections(gathered),
        (tcp_section(gathered.tcp), "TCP"),
        (followed_section(gathered.followed), "TCP by packets"),
        (rdma_section(gathered.ports), "RDMA ports"),
        (nccl_section(gathered.nccl), "NCCL"),
        (section("records", "Records read", _records(gathered)), "Records"),
    ]
    links = "".join(f'<li><a href="#{html.split(chr(34), 2)[1]}">{safe(name)}</a></li>' for html, name in parts if html)
    body = "".join(html for html, _ in parts)
    count = counted(sum(gathered.types.values()), "record")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="generator" content="xtrace-catch report">'
        f"<title>{safe(title)}</title><style>{CSS}</style></head>"
        f'<body><a class="skip" href="#main">Skip to content</a><header><h1>{safe(title)}</h1>'
        f'{_about(gathered)}{_tiles(gathered)}<nav aria-label="Contents"><ul>{links}</ul></nav></header>'
        f'<main id="main">{body}</main><footer>Made by xtrace-catch report from {safe(source)}: {count}.'
        " Bytes are frame bytes without FCS.</footer></body></html>\n"
    )


def interface_sections(gathered: Gathered) -> Iterator[tuple[str, str]]:
    """Yield sections of interfaces that carried packets, the busiest first, with their names."""
    busy = [(name, sums) for name, sums in gathered.interfaces.items() if sums.bytes]
    many = len({name[0] for name, _ in busy}) > 1
    for place, (name, sums) in enumerate(sorted(busy, key=lambda item: -item[1].bytes)):
        shown = " ".join(name) if many else name[1]
        yield interface_section(f"interface-{place}", shown, sums), shown


def _start_hosts(gathered: Gathered) -> Iterator[str]:
    return (str(start.get("host", "?")) for start in gathered.starts)


def _about(gathered: Gathered) -> str:
    """Return when and how was watched."""
    time = f"{moment(gathered.begin_s)} to {moment(gathered.end_s)}"
    parts = []
    versions = sorted({str(start.get("version", "?")) for start in gathered.starts})
    modes = sorted({str(mode) for start in gathered.starts for mode in start.get("modes", [])})
    filters = sorted({str(text) for start in gathered.starts for text in start.get("filters", [])})
    lengths = sorted({length_of(start.get("interval_s")) for start in gathered.starts})
    if gathered.starts:
        parts.append(f"intervals of {', '.join(f'{length:g} s' for length in lengths)}")
        parts.append(f"mode {', '.join(modes)}, version {', '.join(versions)}")
    parts.append(f"filters: {'; '.join(filters)}" if filters else "no filters")
    return f'<p class="dim">{" · ".join((time, *map(safe, parts)))}</p>'


def _tiles(gathered: Gathered) -> str:
    """Return the main figures. Nothing is summed over interfaces: one packet may cross several."""
    tiles = []
    busiest = max(gathered.interfaces.items(), key=lambda item: item[1].bytes, default=None)
    if busiest:
        (_, name), sums = busiest
        for direction, way in sums.ways.items():
            if way.intervals:
                mean = 8 * way.total.bytes / way.covered_s if way.covered_s else 0.0
                label = f"{name} {DIRECTION_NAMES[direction]}, mean {rate(mean)}, peak {rate(way.rates.peak())}"
                tiles.append((size(way.total.bytes), safe(label)))
        tiles.append((number(sum(way.total.packets for way in sums.ways.values())), safe(f"packets on {name}")))
    if gathered.ports:
        ill = sum(port.worst != "ok" for port in gathered.ports.values())
        tiles.append((f"{len(gathered.ports) - ill} of {len(gathered.ports)}", "RDMA ports always healthy"))
    if gathered.types.get("nccl"):
        tiles.append((number(gathered.nccl.calls), "NCCL calls"))
    return f"<ul class='tiles'>{''.join(f'<li><b>{value}</b><span>{label}</span></li>' for value, label in tiles)}</ul>"


def _findings_list(gathered: Gathered) -> str:
    items = "".join(f'<li class="{kind}"><b>{KINDS[kind]}</b>{text}</li>' for kind, text in findings(gathered))
    return f'<ul class="findings">{items}</ul>'


def findings(gathered: Gathered) -> Iterator[Finding]:
    """Yield what a reader must know before the figures: whether they close, and what they lack."""
    if not gathered.types:
        yield "warn", "There are no records."
        return
    if gathered.interfaces:
        if gathered.open_sums:
            yield (
                "bad",
                safe(f"Flows, unattributed and filtered do not add up to the total: {_listed(gathered.open_sums)}"),
            )
        else:
            yield "ok", "On every interface, flows, other, unattributed and filtered add up to the totals."
    if gathered.runs != gathered.ends:
        yield (
            "warn",
            safe(f"{counted(gathered.runs, 'start record')}, {counted(gathered.ends, 'end record')}: not whole runs"),
        )
    if gathered.problems.count:
        first = gathered.problems.first
        yield "warn", safe(f"{counted(gathered.problems.count, 'line')} could not be used, the first: {first}")
    if gathered.left_out:
        yield "warn", f"{counted(gathered.left_out, 'record')} of further interfaces or ports are left out."
    yield from _interface_findings(gathered)
    for (_, name), followed in gathered.followed.interfaces.items():
        if lost := followed.sums["no_room_packets"]:
            packets = number(lost, "packets")
            yield "warn", f"{safe(name)}: {packets} are of TCP connections that found no room (raise --max-flows)."
    for (_, name), (attached, detail) in gathered.hooks.items():
        if not attached:
            yield "bad", safe(f"{name} was not monitored at the end: {detail}")
    for (_, name), port in gathered.ports.items():
        if port.worst != "ok":
            kind = "bad" if port.worst == "critical" else "warn"
            why = "; ".join(list(port.reasons)[:3])
            count = port.health[port.worst]
            yield kind, safe(f"{name} was {port.worst} in {count} of {counted(port.intervals, 'interval')}: {why}")
    yield from _nccl_findings(gathered)


def _interface_findings(gathered: Gathered) -> Iterator[Finding]:
    for (_, name), sums in gathered.interfaces.items():
        for direction, way in sums.ways.items():
            where = safe(f"{name} {DIRECTION_NAMES[direction]}: ")
            if way.unattributed.packets:
                part = share(way.unattributed.packets, way.total.packets)
                packets = number(way.unattributed.packets, "packets")
                yield "warn", f"{where}{packets} ({part}) found no room in the flow table (raise --max-flows)."
            for coverage, count in way.coverage.items():
                meaning = {"none": "the hook saw nothing", "partial": "the hook saw a part"}.get(coverage, coverage)
                yield "warn", f"{where}{safe(meaning)} of what the interface counted, in {counted(count, 'interval')}."
            if way.qdisc_drops:
                yield "warn", f"{where}{number(way.qdisc_drops, 'packets')} were counted and then dropped by the queue."
            if way.down:
                yield "warn", f"{where}down or without carrier in {counted(way.down, 'interval')}."
            if way.frames:
                yield "warn", f"{where}packets that the kernel merged count once (units: frame)."


def _nccl_findings(gathered: Gathered) -> Iterator[Finding]:
    nccl = gathered.nccl
    if gathered.types.get("nccl"):
        closed = nccl.counted.packets + nccl.unattributed == nccl.calls
        yield (
            ("ok", "NCCL calls of all processes and unattributed calls add up.")
            if closed
            else (
                "bad",
                "NCCL calls of processes and unattributed calls do not add up to all calls.",
            )
        )
    if nccl.errors:
        yield "bad", f"{number(nccl.errors)} NCCL calls failed."
    for (name, rank, verdict), last in nccl.verdicts.items():
        yield "bad", safe(f"Communicator {name}, rank {rank}: {verdict.replace('_', ' ')}: {last.evidence}")
    for name, ranks in nccl.missing.items():
        yield "bad", safe(f"Communicator {name}: ranks {ranks} are missing, as last reported.")
    if nccl.unprobed:
        yield "warn", f"NCCL processes that could not be probed, whose calls are unknown: {len(nccl.unprobed)}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _totals(gathered: Gathered) -> str:
    """Return the totals of all interfaces and directions."""
    headings = [("INTERFACE", TEXT), ("DIRECTION", TEXT)]
    names = ["PACKETS", "BYTES", "IN FLOWS", "OTHER", "UNATTRIBUTED", "FILTERED"]
    if any(way.fragments.packets for sums in gathered.interfaces.values() for way in sums.ways.values()):
        names.append("FILTERED FRAGMENTS")
    headings += [(name, NUMBER) for name in names]
    headings += [("HOOK", TEXT), ("SUMS", TEXT)]
    many = len({host for host, _ in gathered.interfaces}) > 1
    rows = []
    for (host, name), sums in gathered.interfaces.items():
        for direction, way in sums.ways.items():
            if way.intervals:
                parts = (way.shown, way.other, way.unattributed, way.filtered, way.fragments)[: len(names) - 2]
                rows.append(
                    [
                        safe(f"{host} {name}" if many else name),
                        DIRECTION_NAMES[direction],
                        number(way.total.packets),
                        number(way.total.bytes),
                        *(number(part.bytes) for part in parts),
                        safe(way.hook),
                        '<b class="ok">close</b>' if way.is_closed else '<b class="critical">do not close</b>',
                    ]
                )
    if not rows:
        return ""
    note = (
        f"The columns from IN FLOWS to {names[-1]} are bytes and add up to BYTES, and packets likewise. Interfaces are"
        " not summed: one packet may cross several."
    )
    return table("Totals of the run", headings, rows, note)


def _records(gathered: Gathered) -> str:
    rows = [[safe(kind), number(count)] for kind, count in sorted(gathered.types.items())]
    unshown = ", ".join(sorted(gathered.unshown))
    note = f"Not shown in this report: {unshown}." if unshown else ""
    return table("Records by type", [("TYPE", TEXT), ("RECORDS", NUMBER)], rows, note) if rows else ""
