"""TCP connections that suffered."""

from __future__ import annotations

from xtrace.report.connections import COUNTERS, Connection, TcpSums
from xtrace.report.markup import NUMBER, TEXT, number, safe, section, share, table

MOST_SHOWN = 20


def tcp_section(tcp: TcpSums) -> str:
    """Return what all sockets did, failures by reason, and the connections that suffered most."""
    return section("tcp", "TCP", _sockets(tcp), _failures(tcp), _resent(tcp), _ills(tcp))


def _ends(connection: Connection) -> str:
    return f'<span class="flow">{safe(connection.local)} ↔ {safe(connection.remote)}</span>'


def _sockets(tcp: TcpSums) -> str:
    rows = [
        [
            safe(" ".join(name)),
            *(number(all_.sums.get(counter)) + ("+" if counter in all_.unknown else "") for counter in COUNTERS),
        ]
        for name, all_ in tcp.sockets.items()
    ]
    headings = [("HOST, NAMESPACE", TEXT), *((name.upper().replace("_", " "), NUMBER) for name in COUNTERS)]
    note = (
        "RETRANS SEGS is the kernel's own count, UNSEEN what no socket showed of it. A sum with + lacks intervals"
        " whose value was not known."
    )
    return table("All sockets", headings, rows, note) if rows else ""


def _failures(tcp: TcpSums) -> str:
    rows = [
        [safe(f"{what}: {reason}"), safe(" ".join(name)), number(times)]
        for name, sockets in tcp.sockets.items()
        for (what, reason), times in sorted(sockets.failures.items(), key=lambda item: -item[1])
    ]
    headings = [("WHAT FAILED", TEXT), ("HOST, NAMESPACE", TEXT), ("TIMES", NUMBER)]
    return table("Failures by reason", headings, rows[:MOST_SHOWN]) if rows else ""


def _resent(tcp: TcpSums) -> str:
    chosen, rest = tcp.resent.top(MOST_SHOWN)
    rows = [
        [_ends(connection), safe(connection.host), number(count.bytes), share(count.bytes, count.packets)]
        for connection, count in chosen
    ]
    if rest.bytes:
        rows.append(["all others", "", number(rest.bytes), share(rest.bytes, rest.packets)])
    headings = [("CONNECTION", TEXT), ("HOST", TEXT), ("PACKETS SENT AGAIN", NUMBER), ("SHARE OF SEGMENTS", NUMBER)]
    return table("Connections with the most retransmissions, of those with records", headings, rows) if rows else ""


def _ills(tcp: TcpSums) -> str:
    worst = sorted(tcp.ills.items(), key=lambda item: -item[1].intervals)[:MOST_SHOWN]
    rows = [
        [
            _ends(connection),
            f'<b class="{safe(ills.worst)}">{safe(ills.worst)}</b>',
            number(ills.intervals),
            safe("; ".join(ills.reasons)),
        ]
        for connection, ills in worst
    ]
    headings = [("CONNECTION", TEXT), ("WORST", TEXT), ("INTERVALS", NUMBER), ("REASONS", TEXT)]
    return table("Connections that were not healthy", headings, rows) if rows else ""
