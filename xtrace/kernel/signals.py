"""Signals that are read from a descriptor instead of interrupting the process (signalfd(2))."""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress

from xtrace.kernel import syscall
from xtrace.kernel.bpf import Fd

_INFO_SIZE = 128
"""struct signalfd_siginfo, which begins with the signal's number (linux/signalfd.h)."""


class SignalFd(Fd):
    """Blocks signals in this thread and in all that it starts later, and yields those that came.

    A thread that runs already would take them: open this one before any thread is started.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        bits = sum(1 << number - 1 for number in numbers)
        super().__init__(syscall.call("signalfd4", syscall.lib.xt_signalfd, bits))

    def read(self) -> set[signal.Signals]:
        """Return the signals that came since the last call."""
        found = set()
        with suppress(BlockingIOError):
            while True:
                (number,) = struct.unpack_from("=I", os.read(self.fileno(), _INFO_SIZE))
                found.add(signal.Signals(number))
        return found

    def close(self) -> None:
        """Release the descriptor; the signals have their usual effect again."""
        if not self.closed:
            self.read()
            super().close()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
