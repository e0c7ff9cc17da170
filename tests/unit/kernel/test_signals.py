"""Signals read from a descriptor, sent by the real kernel."""

from __future__ import annotations

import select
import signal

from xtrace.kernel.signals import SignalFd

ABOUT_THE_TERMINAL = (signal.SIGWINCH, signal.SIGTSTP)


def is_readable(signals: SignalFd) -> bool:
    return bool(select.select([signals], [], [], 0)[0])


def test_signals_are_read_once_and_interrupt_nothing() -> None:
    with SignalFd(*ABOUT_THE_TERMINAL) as signals:
        assert not is_readable(signals) and signals.read() == set()
        for number in (*ABOUT_THE_TERMINAL, signal.SIGWINCH):
            signal.raise_signal(number)
        assert is_readable(signals)
        assert signals.read() == set(ABOUT_THE_TERMINAL)
        assert not is_readable(signals) and signals.read() == set()


def test_the_mask_is_as_it_was_after_close_and_what_waited_is_dropped() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signals = SignalFd(signal.SIGTSTP)
    assert signal.SIGTSTP in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.raise_signal(signal.SIGTSTP)  # would stop this process
    signals.close()
    signals.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
