"""Standard output for sinks: writes whole buffers, interruptible by a stop request."""

from __future__ import annotations

import os
import select

from xtrace.errors import XtraceError
from xtrace.stop import GRACE_S, Stop

STDOUT = 1

CHUNK = select.PIPE_BUF
"""Bytes that a writable pipe accepts without blocking (POSIX: at least 512; Linux: 4096)."""


class OutputClosed(XtraceError):
    """The reader closed standard output: a normal end."""

    exit_code = 0


class OutputBlocked(XtraceError):
    """Standard output was still blocked when the time after a stop request was over; `lost` records were dropped."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        super().__init__(
            f"standard output: still blocked {GRACE_S:.0f} s after the request to stop, records dropped: {lost},"
            " and all later ones; read faster, or write to a file"
        )


class OutputStream:
    """Writes bytes to a descriptor it does not own.

    With a slow reader write() waits, while packets are still counted. Once a stop is requested, it waits at most
    Stop.seconds_left() and then raises OutputBlocked with the number of records lost.
    """

    def __init__(self, fd: int, stop: Stop) -> None:
        self._fd = fd
        self._stop = stop
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._wakeup = select.poll()
        self._wakeup.register(fd, select.POLLOUT)
        self._wakeup.register(stop.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor, to notice that its reader is gone."""
        return self._fd

    def is_ready(self) -> bool:
        """Return whether a few bytes can be written without waiting."""
        return bool(self._poll.poll(0))

    def write(self, data: bytes) -> None:
        """Write all of `data`, which must end with a newline. Raises OutputClosed or OutputBlocked."""
        view = memoryview(data)
        written = 0
        while written < len(data):
            if not self._wait_until_ready():
                raise OutputBlocked(data.count(b"\n", written))
            try:
                written += os.write(self._fd, view[written : written + CHUNK])
            except BrokenPipeError:
                raise OutputClosed("standard output: closed by its reader") from None
            except OSError as error:
                raise XtraceError(f"standard output: {error.strerror}") from error

    def _wait_until_ready(self) -> bool:
        if not self._stop.requested:
            ready = dict(self._wakeup.poll())
            if self._fd in ready:
                return True
        return bool(self._poll.poll(self._stop.seconds_left() * 1000))
