"""The pane of TCP connections in trouble, by their sockets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xtrace.kernel.syscall import lib
from xtrace.model.tcp import Connection, Ends, TcpSnapshot
from xtrace.sinks.live.listed import Sorting
from xtrace.sinks.live.pane import STYLES, Column, Row, View
from xtrace.sinks.live.troubled import BADNESS, RATE, RETRANSMITTED, Troubled, endpoint
from xtrace.sinks.text.tcp import connection_line, failure_line, milliseconds, sums_words
from xtrace.sinks.text.units import scaled


def carried(connection: Connection) -> int:
    """Return the bytes of both directions that the socket knows of, in the interval."""
    counters = (lib.TCP_BYTES_ACKED, lib.TCP_BYTES_RECEIVED)
    return sum(connection.growth[counter] or 0 for counter in counters)


class ConnectionPane(Troubled[Connection, TcpSnapshot]):
    """A row per connection that is not well."""

    title = "TCP in trouble"
    mode = "tcp"
    graph = "acknowledged and received"

    def __init__(self) -> None:
        again = Sorting(lambda connection: connection.growth[lib.TCP_RETRANSMITTED] or 0)
        super().__init__(carried, {RETRANSMITTED: again})

    def connections(self, snapshot: TcpSnapshot) -> Sequence[Connection]:
        """Return all connections of an interval."""
        return snapshot.connections

    def summary(self, view: View) -> str:
        """Return the sums of all sockets."""
        return "; ".join(map(sums_words, self._snapshot.namespaces)) if self._snapshot else ""

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns."""
        return (
            Column("LOCAL"),
            Column("REMOTE"),
            Column(view.rate_heading, True, RATE),
            Column("AGAIN", True, RETRANSMITTED),
            Column("RTT", True),
            Column("HEALTH", order=BADNESS),
            Column(""),
        )

    def row(self, entry: Connection, view: View) -> Row:
        """Return what it suffers from."""
        sample = entry.sample
        again = entry.growth[lib.TCP_RETRANSMITTED]
        return Row(
            [
                endpoint(sample.local, sample.local_port),
                endpoint(sample.remote, sample.remote_port),
                self.rate(entry, view),
                "-" if again is None else str(again),
                milliseconds(entry.level(lib.TCP_RTT)),
                entry.health,
                "; ".join(entry.reasons),
            ],
            STYLES.get(entry.health, ""),
        )

    def key(self, entry: Connection) -> tuple[int, Ends]:
        """Return namespace, addresses and ports: containers may have the same addresses."""
        return entry.netns, entry.ends

    def lines(self, entry: Connection, snapshot: TcpSnapshot) -> Iterator[str]:
        """Yield its line, what closed it, where it was seen, and what failed."""
        yield connection_line(entry, snapshot.interval_ns)
        yield f"congestion control {entry.sample.congestion}"
        if entry.closer:
            yield f"closed by {entry.closer.command}[{entry.closer.pid}]"
        for seen in entry.seen:
            yield f"{seen.interface} {seen.direction.in_out}: {seen.packets} packets, {scaled(seen.bytes)}B"
        for sums in snapshot.namespaces:
            yield from map(failure_line, sums.failures)
