"""Stop requests by signal: one flag, one descriptor to wait on, one time limit for what follows.

Imported before anything else, so that no signal is lost: it must import little.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from xtrace.errors import Stopped

SECOND_INTERRUPT = 130
"""Exit code of an immediate exit: 128 + SIGINT."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAME_REQUEST_S = 0.5
"""Seconds in which a second SIGINT belongs to the first: timeout(1) signals the process, and then its group."""

GRACE_S = 2.0
"""Seconds that output may block after the request before the rest is dropped."""


def in_service() -> bool:
    """Whether a service manager has started this run: SIGHUP is no request to stop then (xtrace/reload.py).

    Not if it has a controlling terminal, which tells its end by SIGHUP: a shell there may have inherited the variable.
    """
    return bool(os.environ.get("NOTIFY_SOCKET")) and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # ENXIO without one
        return False
    return True


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag and a readable descriptor; a second Ctrl-C exits at once.

    An immediate exit still detaches programs attached by links: the kernel removes these with their descriptors.
    """

    def __init__(self) -> None:
        self.requested = False
        self.before_exit: Callable[[], None] | None = None
        """called before an immediate exit"""
        self.leaves_hangup = False
        """whether SIGHUP is no request: it is blocked, for xtrace/reload.py"""
        self._at = 0.0
        self._installed = False
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @classmethod
    def installed(cls) -> Stop:
        """Create a Stop that handles the signals. Must run in the main thread."""
        stop = cls()
        stop.install()
        return stop

    def install(self) -> None:
        """Install the signal handlers, and let in what waits for them. Must run in the main thread.

        SIGHUP stays ignored under nohup. SIGINT does not: shells start background jobs with SIGINT ignored, but a
        SIGINT sent to such a job on purpose should end it. In a service SIGHUP waits, blocked, until it is read.
        """
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        self._installed = True
        handled = set(SIGNALS)
        self.leaves_hangup = in_service()
        if self.leaves_hangup:
            handled.remove(signal.SIGHUP)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        for number in handled:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT and time.monotonic() - self._at > SAME_REQUEST_S:
            if self.before_exit is not None:
                self.before_exit()
            os._exit(SECOND_INTERRUPT)
        self.request()

    def request(self) -> None:
        """Request an orderly end."""
        if not self.requested:
            self.requested, self._at = True, time.monotonic()
            os.write(self._writable, b"\0")

    def check(self) -> None:
        """Raise Stopped if a stop is requested: for start-up, before the loop watches for requests."""
        if self.requested:
            raise Stopped("stopped before monitoring began")

    def close(self) -> None:
        """Close the descriptors and ignore the signals from now on: the process is about to exit."""
        if self._installed:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        os.close(self._readable)
        os.close(self._writable)

    def fileno(self) -> int:
        """Return a descriptor that is readable once a stop is requested."""
        return self._readable

    def seconds_left(self) -> float:
        """Return the seconds left for blocked output, 0 when they are over."""
        return max(0.0, self._at + GRACE_S - time.monotonic())
