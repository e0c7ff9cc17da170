"""Verdicts on connections by their packets, at the thresholds and around them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.make_paths import path, sent, sums
from xtrace.model.limits import changed
from xtrace.model.tcp_limits import LIMITS
from xtrace.model.tcp_path import TcpPath, Way
from xtrace.model.tcp_path_health import judge_path, judge_sums
from xtrace.model.words import Health

SECOND = 1_000_000_000
TICK = 4_000_000


def judged(given: TcpPath, limits: str = "") -> tuple[Health, tuple[str, ...]]:
    found = judge_path(given, SECOND, TICK, changed(LIMITS, limits, "--threshold"))
    return found.health, found.reasons


@pytest.mark.parametrize(
    "way, health, reasons",
    [
        (sent(data_packets=300, retransmitted_packets=3), Health.OK, ()),
        (
            sent(data_packets=299, retransmitted_packets=3),
            Health.WARN,
            ("1.0 % retransmitted (3 of 299 data packets)",),
        ),
        (sent(data_packets=2, retransmitted_packets=2), Health.OK, ()),
        (
            sent(data_packets=100, retransmitted_packets=6),
            Health.CRITICAL,
            ("6.0 % retransmitted (6 of 100 data packets)",),
        ),
        (sent(retransmitted_packets=3), Health.CRITICAL, ("100.0 % retransmitted (3)",)),
        (
            sent(data_packets=100, late_packets=3),
            Health.WARN,
            ("3.0 % late: out of order, or lost before this point (3 of 100 data packets)",),
        ),
        (sent(data_packets=100, untold_packets=50), Health.OK, ()),
        (sent(closed_ticks=50), Health.OK, ()),
        (sent(closed_ticks=51), Health.WARN, ("window closed 20 % of the interval",)),
        (sent(closed_ticks=400), Health.WARN, ("window closed 100 % of the interval",)),
    ],
)
def test_each_side_is_judged_by_what_it_sent(way: Way, health: Health, reasons: tuple[str, ...]) -> None:
    assert judged(path(way)) == (health, tuple(f"-> {reason}" for reason in reasons))
    assert judged(path(None, way)) == (health, tuple(f"<- {reason}" for reason in reasons))


def test_worst_reason_is_first() -> None:
    warn, critical = sent(data_packets=100, retransmitted_packets=3), sent(data_packets=100, retransmitted_packets=9)
    health, reasons = judged(path(warn, critical))
    assert health is Health.CRITICAL
    assert [reason[:2] for reason in reasons] == ["<-", "->"]


def test_syns_without_an_answer_are_told_from_the_second_repetition_on() -> None:
    assert judged(path(sent(), unanswered=2)) == (Health.OK, ())
    assert judged(path(sent(), unanswered=3)) == (Health.WARN, ("no answer to 3 SYNs seen",))
    assert judged(path(sent(), unanswered=6))[0] is Health.CRITICAL
    assert judged(path(sent(), unanswered=6, has_ended=True)) == (Health.OK, ())


def test_round_trip_is_that_of_both_halves() -> None:
    known = path(sent(), server_ns=6_000_000, client_ns=5_000_000)
    assert judged(known) == (Health.OK, ())
    assert judged(known, "tcp_rtt=11") == (Health.OK, ())
    assert judged(known, "tcp_rtt=10:20") == (Health.WARN, ("round trip of the handshake 11.0 ms",))
    assert judged(known._replace(client_ns=None), "tcp_rtt=1") == (Health.OK, ())
    assert judged(known._replace(server_ns=None), "tcp_rtt=1") == (Health.OK, ())


def test_refused_connects_and_resets_are_judged_by_interface() -> None:
    quiet = judge_sums(replace(sums(resets=2), refused=2), 1_000_000_000, LIMITS)
    assert (quiet.health, quiet.reasons) == (Health.OK, ())
    both = judge_sums(replace(sums(resets=7), refused=3), 1_000_000_000, LIMITS)
    assert both.health is Health.WARN
    assert both.reasons == ("refused connects: 3 in 1.0 s", "resets: 4 in 1.0 s")
    slow = judge_sums(replace(sums(resets=7), refused=3), 60_000_000_000, LIMITS)
    assert (slow.health, slow.reasons) == (Health.OK, ())
