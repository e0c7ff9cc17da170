"""Verdicts on TCP connections by their packets. The thresholds are those of --tcp, where they mean the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xtrace.model.limits import Finding, Limits, level_of, worst_first
from xtrace.model.tcp_health import LEAST_EVENTS
from xtrace.model.tcp_path import PathSums, TcpPath, Way

AFTER = "->", "<-"
"""The side that is meant: what src sent, what dst sent."""


def judge_path(path: TcpPath, interval_ns: int, tick_ns: int, limits: Limits) -> TcpPath:
    """Return the connection with health and reasons."""
    findings = [*_handshake(path, limits)]
    for arrow, way in zip(AFTER, (path.forward, path.reverse), strict=True):
        if way and _may_be_bad(way):
            findings += _of_way(way, arrow, interval_ns, tick_ns, limits)
    if not findings:
        return path
    health, reasons = worst_first(findings)
    return path._replace(health=health, reasons=reasons)


def _may_be_bad(way: Way) -> int:
    """Whether there is anything to judge: of nearly all there is not, and there may be very many."""
    return way.retransmitted_packets or way.late_packets or way.closed_ticks


def _of_way(way: Way, arrow: str, interval_ns: int, tick_ns: int, limits: Limits) -> Iterator[Finding]:
    for name, count in (("tcp_retransmitted", way.retransmitted_packets), ("tcp_late", way.late_packets)):
        limit = limits[name]
        percent = min(100 * count / way.data_packets, 100.0) if way.data_packets else 100.0
        level = level_of(percent, limit) if count >= LEAST_EVENTS else None
        if level:
            of = f" of {way.data_packets} data packets" if way.data_packets else ""
            yield Finding(level, f"{arrow} {percent:.1f} % {limit.words} ({count}{of})")
    limit = limits["tcp_receiver_limited"]
    held = min(100 * way.closed_ticks * tick_ns / interval_ns, 100.0)
    level = level_of(held, limit)
    if level:
        yield Finding(level, f"{arrow} window closed {held:.0f} % {limit.words}")


def _handshake(path: TcpPath, limits: Limits) -> Iterator[Finding]:
    times = path.unanswered
    level = level_of(times - 1, limits["tcp_timeouts"]) if times else None
    if level and not path.has_ended:
        yield Finding(level, f"no answer to {times} SYNs seen")
    limit = limits["tcp_rtt"]
    if path.rtt_ns is not None:
        total_ms = path.rtt_ns / 1e6
        level = level_of(total_ms, limit)
        if level:
            yield Finding(level, f"{limit.words} of the handshake {total_ms:.1f} ms")


def judge_sums(sums: PathSums, interval_ns: int, limits: Limits) -> PathSums:
    """Return an interface's sums with health and reasons: by refused connects and resets."""
    findings = []
    for name, count in (("tcp_failed", sums.refused), ("tcp_reset", sums.counted("resets") - sums.refused)):
        level = level_of(count * 60e9 / interval_ns, limits[name]) if count >= LEAST_EVENTS else None
        if level:
            words = "refused connects" if name == "tcp_failed" else "resets"
            findings.append(Finding(level, f"{words}: {count} in {interval_ns / 1e9:.1f} s"))
    health, reasons = worst_first(findings)
    return replace(sums, health=health, reasons=reasons)
