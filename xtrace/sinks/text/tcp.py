"""The health of TCP connections as text: those in trouble, what failed, and one line of all."""

from __future__ import annotations

import time
from collections.abc import Iterator

from xtrace.kernel.syscall import lib
from xtrace.model.tcp import Connection, Failure, NamespaceSums, TcpSnapshot
from xtrace.model.tcp_health import limited_by, troubled_first
from xtrace.printable import with_port
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.render import address

MOST_CONNECTIONS, MOST_FAILURES = 10, 5
"""Lines per interval, worst first."""


class TcpText:
    """Renders what is wrong, and a line per namespace."""

    def __init__(self, options: TextOptions) -> None:
        self._most = min(options.top or MOST_CONNECTIONS, MOST_CONNECTIONS)

    def lines(self, snapshot: TcpSnapshot) -> Iterator[str]:
        """Yield all lines of one interval."""
        troubled, more = troubled_first(snapshot.connections, self._most)
        yield from (connection_line(connection, snapshot.interval_ns) + "\n" for connection in troubled)
        if more:
            yield f"tcp and {more} more connections\n"
        clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
        for place, sums in enumerate(snapshot.namespaces):
            yield from (failure_line(failure) + "\n" for failure in sums.failures[:MOST_FAILURES])
            where = f" netns={sums.netns}" if place else ""
            yield f"tcp {clock} {snapshot.interval_ns / 1e9:.1f}s {sums_words(sums)}{where}\n"

    def totals(self, totals: object) -> tuple[str, ...]:
        """Nothing: the health of a connection is that of an interval."""
        return ()


def connection_line(connection: Connection, interval_ns: int) -> str:
    """Return `tcp 10.0.0.1:5201 -> 10.0.0.2:40000 rtt=0.3ms warn: 3.1 % retransmitted (31 of 1000 data segments)`."""
    sample = connection.sample
    ends = f"{endpoint(sample.local, sample.local_port)} -> {endpoint(sample.remote, sample.remote_port)}"
    by = limited_by(connection, interval_ns)
    limited = f"; limited by the {by.replace('_', ' ')}" if by else ""
    rtt = milliseconds(connection.level(lib.TCP_RTT))
    return f"tcp {ends} rtt={rtt} {connection.health}: {'; '.join(connection.reasons)}{limited}"


def failure_line(failure: Failure) -> str:
    """Return `tcp connect to 10.0.0.2:81: refused, 3 times`."""
    where = endpoint(failure.remote, failure.port) if any(failure.remote) else "other addresses"
    if failure.was_established:
        where = f"{address(failure.remote)} (port {failure.port})" if any(failure.remote) else where
    what = "connection with" if failure.was_established else "connect to"
    times = f", {failure.times} times" if failure.times > 1 else ""
    return f"tcp {what} {where}: {failure.reason.replace('_', ' ')}{times}"


def sums_words(sums: NamespaceSums) -> str:
    """Return `connections=812 retransmitted=12 unseen=0 failed=1 broken=0 rtt=0.2ms/1.3ms ok`."""
    if sums.errors:
        return f"unavailable: {'; '.join(sums.errors)}"
    failed = sum(failure.times for failure in sums.failures if not failure.was_established)
    broken = sum(failure.times for failure in sums.failures if failure.was_established)
    rtts = sums.rtts
    spread = f"{milliseconds(rtts[len(rtts) // 2])}/{milliseconds(rtts[-1])}" if rtts else "-"
    lost = f" lost_ends={sums.lost_ends}" if sums.lost_ends else ""
    reasons = f": {'; '.join(sums.reasons)}" if sums.reasons else ""
    return (
        f"connections={sums.connections} began={sums.began} ended={sums.ended}"
        f" retransmitted={_known(sums.retransmitted)} unseen={_known(sums.unseen)} failed={failed} broken={broken}"
        f" rtt={spread}{lost} {sums.health}{reasons}"
    )


def endpoint(packed: bytes, port: int) -> str:
    """Return address and port of an end."""
    return with_port(address(packed), port)


def milliseconds(us: int | None) -> str:
    """Return `0.3ms`; `-` if it is not known."""
    return "-" if us is None else f"{us / 1000:.1f}ms" if us >= 100 else f"{us / 1000:.3f}ms"


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)
