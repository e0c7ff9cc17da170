"""The request to stop, by signal: one flag, one descriptor to wait on, one time limit for what follows."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

SECOND_INTERRUPT = 130
"""Exit code of an immediate end: 128 + SIGINT."""

GRACE_S = 2.0
"""How long output may block after the request before the rest is dropped."""


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag and a readable descriptor; a second SIGINT ends at once.

    Ending at once still detaches: the kernel drops a link with its last descriptor.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at = 0.0
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Take over the signals, in the main thread."""
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a parent's wish
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(SECOND_INTERRUPT)
        self.request()

    def request(self) -> None:
        """Ask for an orderly end."""
        if not self.requested:
            self.requested, self._at = True, time.monotonic()
            os.write(self._writable, b"\0")

    def close(self) -> None:
        """Give up the descriptors; signals are not caught any more."""
        signal.set_wakeup_fd(-1)
        os.close(self._readable)
        os.close(self._writable)

    def fileno(self) -> int:
        """Readable from the request on."""
        return self._readable

    def seconds_left(self) -> float:
        """Until blocked output is given up; 0 when it is time."""
        return max(0.0, self._at + GRACE_S - time.monotonic())
