"""Verdicts on TCP connections, in the words that a user reads."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.unit.make import NS, packed
from tests.unit.make_tcp import INTERVAL_NS, connection
from xtrace.kernel.syscall import lib
from xtrace.model.limits import changed
from xtrace.model.tcp import Failure, Reason
from xtrace.model.tcp_health import judge, judge_failures, limited_by, quantile, reason_of
from xtrace.model.tcp_limits import LIMITS, PREFIX

S = 1_000_000
"""us"""


def verdict(threshold: str = "", **more: Any) -> tuple[str, list[str]]:
    judged = judge(connection(**more), INTERVAL_NS, changed(LIMITS, threshold, "--threshold"))
    return judged.health.value, list(judged.reasons)


@pytest.mark.parametrize(
    "grown, levels, health, reason",
    [
        (
            {lib.TCP_RETRANSMITTED: 31, lib.TCP_DATA_SENT: 1000},
            {},
            "warn",
            "3.1 % retransmitted (31 of 1000 data segments)",
        ),
        (
            {lib.TCP_RETRANSMITTED: 60, lib.TCP_DATA_SENT: 1000},
            {},
            "critical",
            "6.0 % retransmitted (60 of 1000 data segments)",
        ),
        ({lib.TCP_RETRANSMITTED: 3}, {}, "critical", "100.0 % retransmitted (3)"),
        (
            {lib.TCP_RECEIVER_LIMITED: 3_100_000},
            {lib.TCP_SEND_WINDOW: 0},
            "warn",
            "receiver's window closed 62 % of the interval",
        ),
        (
            {lib.TCP_RECEIVER_LIMITED: 3_100_000},
            {lib.TCP_SEND_WINDOW: 100},
            "warn",
            "limited by the receiver's window 62 % of the interval",
        ),
        ({lib.TCP_BUFFER_LIMITED: 4 * S}, {}, "warn", "limited by the send buffer 80 % of the interval"),
        ({}, {lib.TCP_TIMEOUTS: 2}, "warn", "2 retransmissions without an answer"),
        ({}, {lib.TCP_TIMEOUTS: 5}, "critical", "5 retransmissions without an answer"),
        (
            {},
            {lib.TCP_UNREAD: 4096, lib.TCP_RECEIVE_WINDOW: 0},
            "warn",
            "own receive window closed: 4096 bytes unread by the application",
        ),
    ],
)
def test_trouble_is_told_in_words(grown: dict[int, int], levels: dict[int, int], health: str, reason: str) -> None:
    assert verdict(grown=grown, levels=levels) == (health, [reason])


@pytest.mark.parametrize(
    "grown, levels",
    [
        ({lib.TCP_DATA_SENT: 1000, lib.TCP_BYTES_ACKED: 10**6}, {lib.TCP_RTT: 10**6}),
        ({lib.TCP_RETRANSMITTED: 2, lib.TCP_DATA_SENT: 10}, {}),
        ({lib.TCP_RETRANSMITTED: 10, lib.TCP_DATA_SENT: 1000}, {}),
        ({lib.TCP_RECEIVER_LIMITED: 1 * S}, {lib.TCP_SEND_WINDOW: 0}),
        ({}, {lib.TCP_TIMEOUTS: 1}),
        ({}, {lib.TCP_UNREAD: 4096, lib.TCP_RECEIVE_WINDOW: 100}),
    ],
)
def test_what_exceeds_no_threshold_is_ok(grown: dict[int, int], levels: dict[int, int]) -> None:
    assert verdict(grown=grown, levels=levels) == ("ok", [])


def test_window_that_the_kernel_does_not_tell_is_not_closed() -> None:
    assert verdict(levels={lib.TCP_UNREAD: 4096}, unknown=(lib.TCP_RECEIVE_WINDOW,)) == ("ok", [])


def test_connect_without_an_answer_counts_its_syns() -> None:
    levels = {lib.TCP_TIMEOUTS: 2}
    assert verdict(levels=levels, state=lib.TCP_STATE_SYN_SENT) == ("warn", ["no answer to 3 SYNs"])


def test_end_by_an_error_is_told_and_the_worst_comes_first() -> None:
    grown = {lib.TCP_RETRANSMITTED: 60, lib.TCP_DATA_SENT: 1000}
    health, reasons = verdict(grown=grown, error=104, has_ended=True)
    assert health == "critical"
    assert reasons == ["6.0 % retransmitted (60 of 1000 data segments)", "reset by the remote side"]
    assert verdict(error=71, has_ended=True)[1] == ["ended by error 71"]


def test_thresholds_are_those_that_are_set() -> None:
    grown = {lib.TCP_RETRANSMITTED: 31, lib.TCP_DATA_SENT: 1000}
    assert verdict("tcp_retransmitted=5:9", grown=grown)[0] == "ok"
    assert verdict("tcp_retransmitted=off", grown=grown)[0] == "ok"
    assert verdict("tcp_retransmitted=1:3", grown=grown)[0] == "critical"
    assert verdict("tcp_rtt=80:200", levels={lib.TCP_RTT: 81_234}) == ("warn", ["round trip 81.2 ms"])
    assert verdict("tcp_rtt=off:200", levels={lib.TCP_RTT: 210_000})[0] == "critical"
    assert verdict("tcp_own_window=off", levels={lib.TCP_UNREAD: 1, lib.TCP_RECEIVE_WINDOW: 0})[0] == "ok"


def test_every_threshold_has_the_prefix_that_tells_it_from_those_of_ports() -> None:
    assert all(name.startswith(PREFIX) for name in LIMITS)


@pytest.mark.parametrize(
    "busy, receiver, buffer, by",
    [
        (1 * S, 0, 0, "application"),
        (4 * S, 0, 0, "network"),
        (5 * S, 4 * S, 0, "receiver"),
        (5 * S, 1 * S, 3 * S, "send_buffer"),
        (0, 0, 0, None),
    ],
)
def test_what_held_the_sender_up_is_told(busy: int, receiver: int, buffer: int, by: str | None) -> None:
    times = {lib.TCP_BUSY: busy, lib.TCP_RECEIVER_LIMITED: receiver, lib.TCP_BUFFER_LIMITED: buffer}
    assert limited_by(connection(times), INTERVAL_NS) == by


def test_without_the_kernels_times_nothing_is_told_of_them() -> None:
    unknown = (lib.TCP_BUSY, lib.TCP_RECEIVER_LIMITED, lib.TCP_BUFFER_LIMITED)
    assert limited_by(connection(unknown=unknown), INTERVAL_NS) is None


def failures(*counts: tuple[bool, int]) -> tuple[Failure, ...]:
    return tuple(Failure(packed("10.0.0.1"), 81, Reason.REFUSED, established, times) for established, times in counts)


@pytest.mark.parametrize(
    "found, health, reasons",
    [
        (failures((False, 2), (False, 2)), "warn", ("failed connects: 4 in 5.0 s",)),
        (failures((False, 2)), "ok", ()),
        (failures((True, 6)), "warn", ("connections ended by an error: 6 in 5.0 s",)),
        (failures((True, 5)), "ok", ()),
        ((), "ok", ()),
    ],
)
def test_failures_of_a_host_are_judged_per_minute(found: Any, health: str, reasons: tuple[str, ...]) -> None:
    assert judge_failures(found, 5 * NS, LIMITS) == (health, reasons)


@pytest.mark.parametrize(
    "error, reason",
    [
        (errno.ECONNRESET, Reason.RESET),
        (errno.EPIPE, Reason.RESET),
        (errno.ECONNREFUSED, Reason.REFUSED),
        (errno.ETIMEDOUT, Reason.TIMED_OUT),
        (errno.EHOSTUNREACH, Reason.UNREACHABLE),
        (errno.ENETUNREACH, Reason.UNREACHABLE),
        (0, Reason.ABANDONED),
        (errno.EACCES, Reason.ERROR),
    ],
)
def test_reason_is_that_of_the_kernels_error(error: int, reason: Reason) -> None:
    assert reason_of(error)[0] is reason


@pytest.mark.parametrize("times", [2, 3])
def test_failures_are_judged_from_three_on(times: int) -> None:
    failures = (Failure(packed("10.0.0.1"), 1, Reason.REFUSED, False, times),)
    assert bool(judge_failures(failures, NS, LIMITS)[1]) is (times >= 3)


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile((), 0.5) is None
    assert [quantile(range(100), part) for part in (0.5, 0.99, 1.0)] == [50, 99, 99]
