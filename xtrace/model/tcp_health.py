"""Verdicts on TCP connections: thresholds, reasons in words, and what held the sender up."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from xtrace.kernel.syscall import lib
from xtrace.model.limits import Finding, Limit, Limits, level_of, worst_first
from xtrace.model.tcp import Connection, Failure, Limited, Reason
from xtrace.model.words import Health

LEAST_EVENTS = 3
"""Packets sent again, or failures, in an interval from which they are judged: one is no trend."""

ENDED_BY = {
    104: (Reason.RESET, "reset by the remote side"),
    32: (Reason.RESET, "reset by the remote side"),
    111: (Reason.REFUSED, "refused by the remote side"),
    110: (Reason.TIMED_OUT, "timed out: no answer"),
    113: (Reason.UNREACHABLE, "remote host unreachable"),
    101: (Reason.UNREACHABLE, "network unreachable"),
    0: (Reason.ABANDONED, "given up before there was an answer"),
}
"""By errno: ECONNRESET, EPIPE, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH."""


def reason_of(error: int) -> tuple[Reason, str]:
    """Why a connection ended with this errno, as a word and in words."""
    return ENDED_BY.get(error, (Reason.ERROR, f"ended by error {error}"))


def judge(connection: Connection, interval_ns: int, limits: Limits) -> Connection:
    """The connection with health and reasons."""
    if _is_quiet(connection, limits):
        return connection
    findings = [
        *_ended(connection),
        *_unanswered(connection, limits["tcp_timeouts"]),
        *_retransmitted(connection, limits["tcp_retransmitted"]),
        *_windows(connection, interval_ns, limits),
        *_round_trip(connection, limits["tcp_rtt"]),
    ]
    if not findings:
        return connection
    health, reasons = worst_first(findings)
    return connection._replace(health=health, reasons=reasons)


def _is_quiet(connection: Connection, limits: Limits) -> bool:
    """Whether there is nothing to judge: of nearly all connections, of which there may be very many."""
    grown, values = connection.growth, connection.sample.values
    has_times = values[lib.TCP_TIMEOUTS] or grown[lib.TCP_RECEIVER_LIMITED] or grown[lib.TCP_BUFFER_LIMITED]
    is_full = values[lib.TCP_UNREAD] and not values[lib.TCP_RECEIVE_WINDOW]
    if has_times or is_full or grown[lib.TCP_RETRANSMITTED] or connection.error is not None:
        return False
    return limits["tcp_rtt"].warn is None and limits["tcp_rtt"].critical is None


def _ended(connection: Connection) -> Iterator[Finding]:
    if connection.error is not None:
        yield Finding(Health.WARN, reason_of(connection.error)[1])


def _unanswered(connection: Connection, limit: Limit) -> Iterator[Finding]:
    times = connection.level(lib.TCP_TIMEOUTS) or 0
    level = level_of(times, limit)
    if level is None or connection.has_ended:
        return
    if connection.sample.state == lib.TCP_STATE_SYN_SENT:
        yield Finding(level, f"no answer to {times + 1} SYNs")
    else:
        yield Finding(level, f"{times} {limit.words}")


def _retransmitted(connection: Connection, limit: Limit) -> Iterator[Finding]:
    again = connection.growth[lib.TCP_RETRANSMITTED] or 0
    if again < LEAST_EVENTS or connection.sample.state == lib.TCP_STATE_SYN_SENT:
        return
    sent = connection.growth[lib.TCP_DATA_SENT]
    percent = min(100 * again / sent, 100.0) if sent else 100.0
    level = level_of(percent, limit)
    if level:
        of = f" of {sent} data segments" if sent else ""
        yield Finding(level, f"{percent:.1f} % {limit.words} ({again}{of})")


def _windows(connection: Connection, interval_ns: int, limits: Limits) -> Iterator[Finding]:
    held = _percent(connection, lib.TCP_RECEIVER_LIMITED, interval_ns)
    level = level_of(held, limits["tcp_receiver_limited"])
    if level:
        is_closed = connection.level(lib.TCP_SEND_WINDOW) == 0
        what = "receiver's window closed" if is_closed else "limited by the receiver's window"
        yield Finding(level, f"{what} {held:.0f} % {limits['tcp_receiver_limited'].words}")
    held = _percent(connection, lib.TCP_BUFFER_LIMITED, interval_ns)
    level = level_of(held, limits["tcp_buffer_limited"])
    if level:
        yield Finding(level, f"limited by the send buffer {held:.0f} % {limits['tcp_buffer_limited'].words}")
    unread = connection.level(lib.TCP_UNREAD)
    level = level_of(1, limits["tcp_own_window"])
    if level and unread and connection.level(lib.TCP_RECEIVE_WINDOW) == 0 and not connection.has_ended:
        yield Finding(level, f"{limits['tcp_own_window'].words}: {unread} bytes unread by the application")


def _round_trip(connection: Connection, limit: Limit) -> Iterator[Finding]:
    rtt = connection.level(lib.TCP_RTT)
    level = None if rtt is None else level_of(rtt / 1000, limit)
    if level and rtt is not None:
        yield Finding(level, f"{limit.words} {rtt / 1000:.1f} ms")


def _percent(connection: Connection, number: int, interval_ns: int) -> float:
    """A time's part of the interval; the kernel counts it in its ticks."""
    grown = connection.growth[number]
    return min(100 * 1000 * grown / interval_ns, 100.0) if grown and interval_ns else 0.0


def limited_by(connection: Connection, interval_ns: int) -> Limited | None:
    """What held the sender up most; None: it sent nothing, or the kernel does not tell."""
    busy = connection.growth[lib.TCP_BUSY]
    receiver, buffer = connection.growth[lib.TCP_RECEIVER_LIMITED], connection.growth[lib.TCP_BUFFER_LIMITED]
    if not busy or receiver is None or buffer is None:
        return None
    shares = {
        Limited.APPLICATION: interval_ns // 1000 - busy,
        Limited.NETWORK: busy - receiver - buffer,
        Limited.RECEIVER: receiver,
        Limited.SEND_BUFFER: buffer,
    }
    return max(shares, key=shares.__getitem__)


def judge_failures(failures: tuple[Failure, ...], interval_ns: int, limits: Limits) -> tuple[Health, tuple[str, ...]]:
    """The verdict on all failures of a namespace."""
    findings = []
    for name, was_established in (("tcp_failed", False), ("tcp_reset", True)):
        count = sum(failure.times for failure in failures if failure.was_established is was_established)
        level = level_of(count * 60e9 / interval_ns, limits[name]) if count >= LEAST_EVENTS else None
        if level:
            findings.append(Finding(level, f"{limits[name].words}: {count} in {interval_ns / 1e9:.1f} s"))
    return worst_first(findings)


class Judged(Protocol):
    """A connection, by its socket or by its packets."""

    @property
    def health(self) -> Health:
        """How it does."""

    @property
    def badness(self) -> tuple[int, int, int]:
        """The worse the higher."""


C = TypeVar("C", bound=Judged)
N = TypeVar("N", int, float)


def worst(connections: Sequence[C], most: int) -> Sequence[C]:
    """Return all connections, or the worst where there are more than `most`."""
    if len(connections) <= most:
        return connections
    return heapq.nlargest(most, connections, key=lambda connection: connection.badness)


def troubled_first(connections: Sequence[C], most: int) -> tuple[Sequence[C], int]:
    """Return those in trouble, the worst first and at most so many, and how many more there are."""
    troubled = [connection for connection in connections if connection.health is not Health.OK]
    troubled.sort(key=lambda connection: connection.badness, reverse=True)
    return troubled[:most], max(len(troubled) - most, 0)


def quantile(ordered: Sequence[N], part: float) -> N | None:
    """Return the value below which that part of sorted values lies; None without any."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else None
