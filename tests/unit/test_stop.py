"""The request to stop: which signals make it, and how long output may take then."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from xtrace import stop as stop_module
from xtrace.errors import Stopped
from xtrace.stop import GRACE_S, SAME_REQUEST_S, SECOND_INTERRUPT, Stop, in_service

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def restored() -> Iterator[None]:
    """The signals of the test process get their handlers and their mask back after the block."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture
def installed(stop: Stop) -> Iterator[Stop]:
    """A Stop that has taken over the signals of the test process."""
    with restored():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        stop.install()
        yield stop


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


class Clock:
    """In place of the module time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stop_module, "time", made)
    return made


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupt_after_a_request_ends_at_once_with_130(
    first: signal.Signals, installed: Stop, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    installed.before_exit = lambda: ended.append(-1)
    signal.raise_signal(first)
    clock.now += SAME_REQUEST_S + 0.1
    assert ended == []
    signal.raise_signal(signal.SIGINT)
    assert ended == [-1, SECOND_INTERRUPT] and SECOND_INTERRUPT == 130


def test_interrupt_to_process_and_group_at_once_is_one_request(
    installed: Stop, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As timeout(1) sends it."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    signal.raise_signal(signal.SIGINT)
    clock.now += SAME_REQUEST_S - 0.1
    signal.raise_signal(signal.SIGINT)
    assert ended == []
    assert installed.requested


def test_interrupt_is_handled_in_a_background_job_whose_shell_ignores_it(stop: Stop) -> None:
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS[:2]}
    try:
        stop.install()
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_start_up_is_abandoned_once_a_stop_is_requested(stop: Stop) -> None:
    stop.check()
    stop.request()
    with pytest.raises(Stopped):
        stop.check()


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
    with restored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop.install()
        signal.raise_signal(signal.SIGHUP)
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_hangup_waits_in_a_service_and_requests_nothing(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@manager")
    monkeypatch.setattr(stop_module, "_has_terminal", lambda: False)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with restored():
        stop.install()
        assert stop.leaves_hangup
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | {signal.SIGHUP}
        signal.raise_signal(signal.SIGHUP)
        assert signal.sigpending() == {signal.SIGHUP}
        assert signal.sigwait([signal.SIGHUP]) == signal.SIGHUP
        assert not stop.requested and not is_readable(stop)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


@pytest.mark.parametrize(
    "value, has_terminal, is_service",
    [(None, False, False), ("", False, False), ("/run/systemd/notify", False, True), ("/run/x", True, False)],
)
def test_a_service_is_what_has_a_managers_socket_and_no_terminal(
    value: str | None, has_terminal: bool, is_service: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_module, "_has_terminal", lambda: has_terminal)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if value is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    assert in_service() is is_service


def test_thousands_of_signals_do_not_block(installed: Stop) -> None:
    fcntl.fcntl(installed, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(5000):  # more than the pipe holds
        signal.raise_signal(signal.SIGTERM)
    assert installed.requested


def test_time_for_output_runs_from_the_first_request(stop: Stop, clock: Clock) -> None:
    stop.request()
    assert stop.seconds_left() == GRACE_S == 2.0
    clock.now += 1.5
    stop.request()
    assert stop.seconds_left() == 0.5
    clock.now += 100
    assert stop.seconds_left() == 0.0
