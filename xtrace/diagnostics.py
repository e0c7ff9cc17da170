"""Diagnostics on stderr, which never block the rest: lines that do not fit are dropped, counted, and reported later."""

from __future__ import annotations

import logging
import os
import select
import stat
import time
from contextlib import suppress
from types import TracebackType

from xtrace.printable import printable

STDERR = 2

CHUNK = select.PIPE_BUF
"""Bytes that a writable pipe accepts without blocking."""

PATIENCE_S = 0.1
"""Seconds to wait for a slow reader. Once they are over, lines are dropped at once until stderr is writable again."""

LAST_PATIENCE_S = 1.0
"""The same at the end of a run, when waiting delays nothing else."""

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class OneLine(logging.Formatter):
    """Formats a message as one line without control characters: it may contain names chosen by others."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Return the text of a message; debug messages may have several lines."""
        return printable(super().formatMessage(record), kept="\n\t" if record.levelno <= logging.DEBUG else "")

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - the name that logging calls
        """Return a traceback, several lines long."""
        return printable(super().formatException(ei), kept="\n")


class Diagnostics(logging.Handler):
    """Writes log lines to a descriptor it does not own, without ever blocking on it.

    logging.shutdown(), which runs at exit, closes it.
    """

    def __init__(self, fd: int = STDERR) -> None:
        super().__init__()
        self.setFormatter(OneLine("%(message)s"))
        self._reopened = _reopen(fd)
        self._fd = fd if self._reopened < 0 else self._reopened
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._patience_s = PATIENCE_S
        self._dropped = 0
        self._is_torn = False
        """whether only a part of the last line was written"""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or drop it if there is no room."""
        try:
            line = self.format(record)
        except (TypeError, ValueError) as error:  # arguments that do not match the message
            line = printable(f"{record.msg!r}: {error!r}")
        if not (self._report_dropped() and self._write(f"{line}\n")):
            self._dropped += 1

    def be_patient(self) -> None:
        """Wait up to LAST_PATIENCE_S for the lines that follow: the run is over, and waiting delays nothing else."""
        self._patience_s = LAST_PATIENCE_S

    def close(self) -> None:
        """Report dropped lines if there is room now, and release what this object has opened."""
        self.acquire()
        try:
            self._report_dropped()
            self._poll.unregister(self._fd)  # poll() then finds nothing writable: later lines are dropped
            self._patience_s = 0.0
            if self._reopened >= 0:
                os.close(self._reopened)
        finally:
            self.release()
        super().close()

    def _report_dropped(self) -> bool:
        """Write how many lines were dropped, if any; return False if there is no room."""
        if self._dropped:
            begin = "\n" if self._is_torn else ""
            if not self._write(f"{begin}xtrace-catch: stderr was blocked, lines dropped: {self._dropped}\n"):
                return False
            self._dropped, self._is_torn = 0, False
        return True

    def _write(self, line: str) -> bool:
        """Write a line; return False if there is no room for all of it in time."""
        data = line.encode("utf-8", "replace")
        end = time.monotonic() + self._patience_s
        written = 0
        with suppress(OSError):  # nobody reads it any more
            while written < len(data) and self._poll.poll(max(0.0, end - time.monotonic()) * 1000):
                with suppress(BlockingIOError):  # another writer was faster
                    written += os.write(self._fd, data[written : written + CHUNK])
        if written == len(data):
            self._patience_s = PATIENCE_S
            return True
        self._patience_s = 0.0
        self._is_torn = self._is_torn or written > 0
        return False


def _reopen(fd: int) -> int:
    """Return a new descriptor of a pipe or terminal that never blocks, -1 if there is none.

    O_NONBLOCK on `fd` itself would affect every process that has inherited it.
    """
    with suppress(OSError):  # /proc may be missing, or the pipe another user's
        if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return -1
