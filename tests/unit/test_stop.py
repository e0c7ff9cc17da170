"""The request to stop: which signals make it, and how long output may take then."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Iterator

import pytest

from xtrace import stop as stop_module
from xtrace.stop import GRACE_S, SECOND_INTERRUPT, Stop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def installed(stop: Stop) -> Iterator[Stop]:
    """A Stop that has taken over the signals of the test process, which get their handlers back."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    stop.install()
    yield stop
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def is_readable(stop: Stop) -> bool:
    return bool(select.select([stop], [], [], 0)[0])


def test_nothing_is_requested_at_first(stop: Stop) -> None:
    assert not stop.requested
    assert not is_readable(stop)


def test_request_is_a_flag_and_a_readable_descriptor(stop: Stop) -> None:
    stop.request()
    assert stop.requested
    assert is_readable(stop)


def test_signal_wakes_a_wait_that_it_only_just_missed(installed: Stop) -> None:
    # the interpreter's own handler writes there at once, before ours has a chance to run
    wakeup = signal.set_wakeup_fd(-1)
    assert os.fstat(wakeup).st_ino == os.fstat(installed.fileno()).st_ino


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_requests_an_orderly_end(number: signal.Signals, installed: Stop) -> None:
    signal.raise_signal(number)
    assert installed.requested
    assert is_readable(installed)


def test_second_interrupt_ends_at_once_with_130(installed: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    signal.raise_signal(signal.SIGINT)
    assert ended == []
    signal.raise_signal(signal.SIGINT)
    assert ended == [130] == [SECOND_INTERRUPT]


def test_interrupt_after_terminate_ends_at_once(installed: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert ended == [130]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_second_terminate_changes_nothing(
    number: signal.Signals, installed: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(number)
    assert ended == []
    assert installed.requested


def test_hangup_ignored_by_nohup_stays_ignored(stop: Stop) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handlers = {number: signal.getsignal(number) for number in SIGNALS[:2]}
    try:
        stop.install()
        signal.raise_signal(signal.SIGHUP)
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGHUP, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_thousands_of_signals_do_not_block(installed: Stop) -> None:
    fcntl.fcntl(installed, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(5000):  # more than the pipe holds
        signal.raise_signal(signal.SIGTERM)
    assert installed.requested


def test_time_for_output_runs_from_the_first_request(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(stop_module, "time", clock)
    stop.request()
    assert stop.seconds_left() == GRACE_S == 2.0
    clock.now += 1.5
    stop.request()
    assert stop.seconds_left() == 0.5
    clock.now += 100
    assert stop.seconds_left() == 0.0
