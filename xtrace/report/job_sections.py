"""RDMA ports and NCCL jobs."""

from __future__ import annotations

from collections.abc import Mapping

from xtrace.report.charts import rates
from xtrace.report.jobs import TRAFFIC, NcclSums, PortSums
from xtrace.report.markup import NUMBER, TEXT, bar, number, safe, section, table
from xtrace.report.sums import Count

MOST_CHARTS = 16
MOST_PROCESSES = 20


def rdma_section(ports: Mapping[tuple[str, str], PortSums]) -> str:
    """Return health, traffic and counters of all ports."""
    if not ports:
        return ""
    many = len({host for host, _ in ports}) > 1
    named = {" ".join(name) if many else name[1]: port for name, port in ports.items()}
    headings = [("PORT", TEXT), ("HEALTH", TEXT), ("STATE", TEXT), ("RATE", TEXT), ("INTERFACE", TEXT)]
    headings += [(name.upper().replace("_", " "), NUMBER) for name in TRAFFIC]
    rows = []
    for name, port in named.items():
        state = port.about.get("state", port.about.get("unavailable", "unknown"))
        about = [safe(state), *(safe(port.about.get(word, "-")) for word in ("rate", "interface"))]
        rows.append([safe(name), _health(port), *about, *(_sum(port, figure) for figure in TRAFFIC)])
    charts = [
        rates(f"RDMA port {name}", {"received": port.rates["rx"], "sent": port.rates["tx"]})
        for name, port in list(named.items())[:MOST_CHARTS]
    ]
    note = "Health is the worst of any interval. A sum followed by + lacks intervals whose value was not known."
    return section(
        "rdma",
        "RDMA ports",
        table("Ports, sums of the run", headings, rows, note),
        _counters(named),
        _reasons(named),
        f'<div class="charts">{"".join(charts)}</div>' if any(charts) else "",
    )


def _health(port: PortSums) -> str:
    bad = "".join(f", {count} {health}" for health, count in port.health.items() if health != "ok")
    return f'<b class="{port.worst}">{port.worst}</b> ({port.intervals} intervals{bad})'


def _sum(port: PortSums, figure: str) -> str:
    value = port.traffic.get(figure)
    return number(value) + ("+" if value is not None and port.unknown.get(figure) else "")


def _counters(ports: Mapping[str, PortSums]) -> str:
    """Return the congestion, loss and link counters that grew."""
    rows = [
        [safe(name), safe(figure), number(value)]
        for name, port in ports.items()
        for figure, value in sorted(port.figures.items())
        if value
    ]
    headings = [("PORT", TEXT), ("COUNTER", TEXT), ("GROWTH", NUMBER)]
    return table("Congestion, loss and link counters that grew", headings, rows) if rows else ""


def _reasons(ports: Mapping[str, PortSums]) -> str:
    rows = [
        [safe(name), safe(reason), number(count)]
        for name, port in ports.items()
        for reason, count in port.reasons.items()
    ]
    headings = [("PORT", TEXT), ("REASON", TEXT), ("INTERVALS", NUMBER)]
    return table("Why ports were not healthy", headings, rows) if rows else ""


def nccl_section(nccl: NcclSums) -> str:
    """Return verdicts, calls by process and by operation, and what the RAS service reported."""
    return section("nccl", "NCCL", _verdicts(nccl), _processes(nccl), _operations(nccl), _ras(nccl))


_SUMS = (("CALLS", NUMBER), ("REQUESTED BYTES", NUMBER), ("SHARE OF BYTES", TEXT))


def _verdicts(nccl: NcclSums) -> str:
    rows = [
        [
            safe(f"{name} rank {rank}"),
            safe(verdict.replace("_", " ")),
            safe(last.job or "-"),
            safe(last.function or "-"),
            number(last.times),
            safe(last.evidence),
        ]
        for (name, rank, verdict), last in nccl.verdicts.items()
    ]
    headings = [("COMMUNICATOR", TEXT), ("VERDICT", TEXT), ("JOB", TEXT), ("FUNCTION", TEXT)]
    headings += [("INTERVALS", NUMBER), ("EVIDENCE", TEXT)]
    return table("Verdicts", headings, rows) if rows else ""


def _processes(nccl: NcclSums) -> str:
    chosen, rest = nccl.processes.top(MOST_PROCESSES)
    whole = nccl.counted.bytes
    rows = [
        _sum_row(nccl, f"{command} (pid {pid}, {host})", (host, pid, command), count, whole)
        for (host, pid, command), count in chosen
    ]
    if rest.packets:
        rows.append(["all others", number(rest.packets), number(rest.bytes), bar(rest.bytes, whole)])
    note = "A sum followed by + lacks calls whose size is not known." if nccl.unsized else ""
    return table("Processes", [("PROCESS", TEXT), *_SUMS], rows, note) if rows else ""


def _operations(nccl: NcclSums) -> str:
    operations, _ = nccl.operations.top(50)
    whole = nccl.operations.total().bytes
    rows = [_sum_row(nccl, " ".join(name), name, count, whole) for name, count in operations]
    return table("Functions and datatypes", [("FUNCTION", TEXT), *_SUMS], rows) if rows else ""


def _ras(nccl: NcclSums) -> str:
    rows = [[safe(name), number(skew), safe(nccl.missing.get(name, "none"))] for name, skew in nccl.skew.items()]
    headings = [("COMMUNICATOR", TEXT), ("MOST SKEW", NUMBER), ("RANKS MISSING LAST", TEXT)]
    return table("As the RAS service reported", headings, rows) if rows else ""


def _sum_row(nccl: NcclSums, name: str, key: tuple[object, ...], count: Count, whole: int) -> list[str]:
    return [safe(name), number(count.packets), _requested(nccl, key, count.bytes), bar(count.bytes, whole)]


def _requested(nccl: NcclSums, key: tuple[object, ...], size: int) -> str:
    """Return requested bytes: unknown is not 0, and a sum may lack some."""
    if tuple(map(str, key)) not in nccl.unsized:
        return number(size)
    return f"{number(size)}+" if size else number(None)
