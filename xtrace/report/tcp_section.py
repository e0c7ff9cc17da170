"""TCP connections that suffered."""

from __future__ import annotations

from xtrace.report.connections import COUNTERS, FOLLOWED, Connection, FollowedSums, Sufferers, TcpSums
from xtrace.report.markup import NUMBER, TEXT, number, safe, section, share, table

MOST_SHOWN = 20


def tcp_section(tcp: TcpSums) -> str:
    """Return what all sockets did, failures by reason, and the connections that suffered most."""
    resent = _resent(tcp.connections, "SEGMENTS")
    return section("tcp", "TCP", _sockets(tcp), _failures(tcp), resent, _ills(tcp.connections))


def followed_section(tcp: FollowedSums) -> str:
    """Return what all connections did by their packets, and those that suffered most."""
    resent = _resent(tcp.connections, "DATA PACKETS")
    return section("tcp-packets", "TCP by packets", _followed(tcp), resent, _ills(tcp.connections))


def _ends(connection: Connection) -> str:
    return f'<span class="flow">{safe(connection.one)} ↔ {safe(connection.other)}</span>'


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


def _followed(tcp: FollowedSums) -> str:
    rows = [
        [
            safe(" ".join(name)),
            *(number(followed.sums[counter]) for counter in FOLLOWED),
            number(followed.ill),
            safe("; ".join(followed.reasons)),
        ]
        for name, followed in tcp.interfaces.items()
    ]
    headings = [
        ("HOST, INTERFACE", TEXT),
        *((name.upper().replace("_", " "), NUMBER) for name in FOLLOWED),
        ("INTERVALS WITH REASONS", NUMBER),
        ("REASONS", TEXT),
    ]
    note = (
        "LATE packets filled a gap: out of order, or lost before this point and sent again. PACKETS, NO ROOM, UNREAD"
        " and SECOND PASS add up to the TCP packets of the flows."
    )
    return table("All connections", headings, rows, note) if rows else ""


def _resent(tcp: Sufferers, of: str) -> str:
    chosen, rest = tcp.resent.top(MOST_SHOWN)
    rows = [
        [_ends(connection), safe(connection.host), number(count.bytes), share(count.bytes, count.packets)]
        for connection, count in chosen
    ]
    if rest.bytes:
        rows.append(["all others", "", number(rest.bytes), share(rest.bytes, rest.packets)])
    headings = [("CONNECTION", TEXT), ("HOST", TEXT), ("PACKETS SENT AGAIN", NUMBER), (f"SHARE OF {of}", NUMBER)]
    return table("Connections with the most retransmissions, of those with records", headings, rows) if rows else ""


def _ills(tcp: Sufferers) -> str:
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
