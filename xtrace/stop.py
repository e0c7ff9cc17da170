"""The request to stop, by signal: one flag, one descriptor to wait on, one time limit for what follows."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

SECOND_INTERRUPT = 130
"""Exit code of an immediate end: 128 + SIGINT."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE_S = 2.0
"""How long output may block after the request before the rest is dropped."""


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag and a readable descriptor; a second SIGINT ends at once.

    Ending at once still detaches what is attached by links: the kernel drops them with their descriptors.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at = 0.0
        self._installed = False
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Take over the signals, in the main thread."""
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        self._installed = True
        for number in SIGNALS:
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
        """Give up the descriptors. From here on, which is the end, the signals are ignored."""
        if self._installed:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        os.close(self._readable)
        os.close(self._writable)

    def fileno(self) -> int:
        """Readable from the request on."""
        return self._readable

    def seconds_left(self) -> float:
        """Until blocked output is given up; 0 when it is time."""
        return max(0.0, self._at + GRACE_S - time.monotonic())
