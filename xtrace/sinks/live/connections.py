"""The pane of TCP connections in trouble, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xtrace.kernel.syscall import lib
from xtrace.model.tcp import Connection, Ends, TcpSnapshot
from xtrace.model.words import Health
from xtrace.sinks.live.history import History
from xtrace.sinks.live.listed import Listed, Sorting
from xtrace.sinks.live.pane import STYLES, Column, Detail, Row, Series, View
from xtrace.sinks.render import address
from xtrace.sinks.text.fit import Endpoint
from xtrace.sinks.text.tcp import connection_line, failure_line, milliseconds, sums_words
from xtrace.sinks.text.units import scaled

BADNESS, RATE, RETRANSMITTED = "badness", "rate", "retransmitted"


def carried(connection: Connection) -> int:
    """Return the bytes of both directions that the socket knows of, in the interval."""
    counters = (lib.TCP_BYTES_ACKED, lib.TCP_BYTES_RECEIVED)
    return sum(connection.growth[counter] or 0 for counter in counters)


SORTING = {
    BADNESS: Sorting(lambda connection: connection.badness),
    RATE: Sorting(carried),
    RETRANSMITTED: Sorting(lambda connection: connection.growth[lib.TCP_RETRANSMITTED] or 0),
}


class ConnectionPane(Listed[Connection]):
    """A row per connection that is not well."""

    title = "TCP in trouble"
    mode = "tcp"

    def __init__(self) -> None:
        super().__init__(SORTING)
        self._history: History[Ends] = History()
        self._snapshot: TcpSnapshot | None = None

    def note(self, snapshot: TcpSnapshot) -> None:
        """Keep what connections carried, beginning when they are in trouble."""
        self._history.begin(snapshot.interval_ns / 1e9)
        for connection in snapshot.connections:
            is_troubled = connection.health is not Health.OK
            self._history.add(connection.sample.ends, carried(connection), is_large=is_troubled)

    def take(self, snapshot: TcpSnapshot) -> None:
        """Show this interval from now on."""
        self._snapshot = snapshot
        self.listed = [each for each in snapshot.connections if each.health is not Health.OK]

    def matches(self, entry: Connection, view: View) -> bool:
        """Return whether its ends match."""
        return view.chosen.connection(entry.sample)

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
        seconds = (self._snapshot.interval_ns if self._snapshot else 0) / 1e9 or 1.0
        again = entry.growth[lib.TCP_RETRANSMITTED]
        return Row(
            [
                _endpoint(sample.local, sample.local_port),
                _endpoint(sample.remote, sample.remote_port),
                view.rate(carried(entry) / seconds),
                "-" if again is None else str(again),
                milliseconds(entry.level(lib.TCP_RTT)),
                entry.health,
                "; ".join(entry.reasons),
            ],
            STYLES.get(entry.health, ""),
        )

    def key(self, entry: Connection) -> Ends:
        """Return addresses and ports."""
        return entry.sample.ends

    def detail(self, key: Ends, view: View) -> Detail:
        """Return the connection's line, and its history."""
        rates = self._history.rates(key)
        series = [Series("acknowledged and received", rates, self._history.span_s(len(rates)))]
        connections = self._snapshot.connections if self._snapshot else ()
        found = next((connection for connection in connections if connection.sample.ends == key), None)
        return Detail(list(self._lines(found)) if found else ["nothing happened on it in this interval"], series)

    def _lines(self, connection: Connection) -> Iterator[str]:
        assert self._snapshot is not None
        line, _, reasons = connection_line(connection, self._snapshot.interval_ns).partition(": ")
        yield line
        yield from (f"  {reason}" for reason in reasons.split("; "))
        yield f"congestion control {connection.sample.congestion}"
        if connection.closer:
            yield f"closed by {connection.closer.command}[{connection.closer.pid}]"
        for seen in connection.seen:
            yield f"{seen.interface} {seen.direction.in_out}: {seen.packets} packets, {scaled(seen.bytes)}B"
        for sums in self._snapshot.namespaces:
            yield from map(failure_line, sums.failures)


def _endpoint(packed: bytes, port: int) -> Endpoint:
    text = address(packed)
    return Endpoint(text, f":{port}", brackets=":" in text)
