"""The pane of TCP connections in trouble, by their packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xtrace.model.tcp_path import PathSnapshot, TcpPath, Way
from xtrace.model.tcp_path_health import AFTER
from xtrace.sinks.live.listed import Sorting
from xtrace.sinks.live.pane import STYLES, Column, Row, View
from xtrace.sinks.live.troubled import BADNESS, RATE, RETRANSMITTED, Troubled, endpoint
from xtrace.sinks.text.tcp import milliseconds
from xtrace.sinks.text.tcp_paths import microseconds, path_line, sums_words
from xtrace.sinks.text.units import scaled

LATE = "late"


def carried(path: TcpPath) -> int:
    """Return the bytes of payload that both sides sent in the interval."""
    return sum(way.bytes for way in path.ways)


def retransmitted(path: TcpPath) -> int:
    """Return the packets that either side sent again."""
    return sum(way.retransmitted_packets for way in path.ways)


def late(path: TcpPath) -> int:
    """Return the packets of either side that filled a gap."""
    return sum(way.late_packets for way in path.ways)


class PathPane(Troubled[TcpPath, PathSnapshot]):
    """A row per connection that is not well, and interface."""

    title = "TCP packets"
    mode = "tcp_packets"
    graph = "payload of both sides"

    def __init__(self) -> None:
        super().__init__(carried, {RETRANSMITTED: Sorting(retransmitted), LATE: Sorting(late)})

    def connections(self, snapshot: PathSnapshot) -> Sequence[TcpPath]:
        """Return all connections of an interval."""
        return snapshot.paths

    def matches(self, entry: TcpPath, view: View) -> bool:
        """Return whether its ends match, and its interface."""
        return super().matches(entry, view) and view.chosen.named(entry.interface)

    def summary(self, view: View) -> str:
        """Return the sums of all connections, by interface."""
        sums = self._snapshot.sums if self._snapshot else ()
        return "; ".join(f"{each.interface} {sums_words(each)}" for each in sums if view.chosen.named(each.interface))

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns."""
        return (
            Column("INTERFACE"),
            Column("SOURCE"),
            Column("DESTINATION"),
            Column(view.rate_heading, True, RATE),
            Column("AGAIN", True, RETRANSMITTED),
            Column("LATE", True, LATE),
            Column("RTT", True),
            Column("HEALTH", order=BADNESS),
            Column(""),
        )

    def row(self, entry: TcpPath, view: View) -> Row:
        """Return what it suffers from."""
        return Row(
            [
                entry.interface,
                endpoint(entry.src, entry.src_port),
                endpoint(entry.dst, entry.dst_port),
                self.rate(entry, view),
                str(retransmitted(entry)),
                str(late(entry)),
                milliseconds(microseconds(entry.rtt_ns)),
                entry.health,
                "; ".join(entry.reasons),
            ],
            STYLES.get(entry.health, ""),
        )

    def key(self, entry: TcpPath) -> bytes:
        """Return its key in the program's map, which has the interface, too."""
        return entry.key

    def lines(self, entry: TcpPath, snapshot: PathSnapshot) -> Iterator[str]:
        """Yield its line, and what either side sent."""
        yield path_line(entry)
        for arrow, way in zip(AFTER, (entry.forward, entry.reverse), strict=True):
            if way is None:
                yield f"{arrow} not seen"
                continue
            yield f"{arrow} {way.direction.in_out}: {way.packets} packets, {scaled(way.bytes)}B of payload"
            yield f"   {'; '.join(_counted(way, snapshot.tick_ns)) or 'nothing was sent twice, or late'}"


def _counted(way: Way, tick_ns: int) -> Iterator[str]:
    for name in ("retransmitted", "late", "untold"):
        packets, size = getattr(way, f"{name}_packets"), getattr(way, f"{name}_bytes")
        if packets:
            yield f"{name} {packets}, {scaled(size)}B"
    names = ("gaps", "probes", "duplicate_acks", "zero_windows", "repeated_syns", "resets")
    yield from (f"{name.replace('_', ' ')} {getattr(way, name)}" for name in names if getattr(way, name))
    if way.closed_ticks:
        is_now = ", now too" if way.is_closed else ""
        yield f"window closed for {way.closed_ticks * tick_ns / 1e9:.1f} s{is_now}"
