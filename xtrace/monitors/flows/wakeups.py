"""One descriptor for all that needs attention between ticks: changes of interfaces, and a check every second."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack, suppress

from xtrace.kernel import syscall
from xtrace.kernel.bpf import Fd

CHECK_NS = 1_000_000_000
"""How often to check that programs are still attached: the kernel does not notify anyone when a link is detached."""


class Wakeups:
    """Owns a timer and the epoll instance that waits for it and for `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        with ExitStack() as opening:
            self._timer = opening.enter_context(Fd(syscall.call("timerfd_create", syscall.lib.xt_timerfd, CHECK_NS)))
            self._epoll = opening.enter_context(select.epoll())
            for waited in (descriptor, self._timer.fileno()):
                self._epoll.register(waited, select.EPOLLIN)
            self._opened = opening.pop_all()

    def fileno(self) -> int:
        """Readable when there is something to do."""
        return self._epoll.fileno()

    def acknowledge(self) -> None:
        """Read the timer, if it has expired."""
        with suppress(BlockingIOError):
            os.read(self._timer.fileno(), 8)

    def close(self) -> None:
        """Release both."""
        self._opened.close()
