"""The terminal as a screen: entered and left, drawn line by line, read key by key.

The few sequences that this needs are the same on every terminal in use (ECMA-48, and xterm's alternate screen), so no
curses and no terminfo: a machine, or the empty root of a container, may have none. If this process is killed, its
guardian gives the terminal back; if that is killed too, nothing is left that would be in a shell's way: cursor and line
wrap are off only while a frame is written.
"""

from __future__ import annotations

import os
import select
import signal
import termios
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from xtrace.errors import KernelError, XtraceError
from xtrace.kernel.guardian import Guardian
from xtrace.kernel.signals import SignalFd
from xtrace.sinks.live import keys
from xtrace.sinks.stream import OutputStream

ENTER = "\x1b[?1049h\x1b[2J"
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
BEGIN, FINISH = "\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h"
"""Around a frame: without a cursor, and lines that are wider than they should be end at the edge."""
CLEAR = "\x1b[2J"

SEQUENCE_MS = 50
"""How long the rest of a key's sequence may take to arrive."""
LOCAL_FLAGS, CONTROL_CHARACTERS, INPUT_FLAGS = 3, 6, 0
"""Places in what tcgetattr() returns."""


class Size(NamedTuple):
    """Of a terminal, in characters."""

    rows: int
    columns: int


class Terminal:
    """Owns the modes of a terminal while it is entered, and the signals about it.

    fileno() is readable when there are keys, a new size, a request to suspend or to go on, or after wake().
    """

    def __init__(self, keyboard: int, stream: OutputStream) -> None:
        self._keyboard = keyboard
        self._stream = stream
        self._before: list[Any] | None = None
        self._guardian: Guardian | None = None
        self._shown: list[str] = []
        self._size = Size(0, 0)
        with ExitStack() as opening:
            self._signals = opening.enter_context(SignalFd(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT))
            self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            opening.callback(os.close, self._woken)
            self._epoll = opening.enter_context(select.epoll())
            for waited in (keyboard, self._signals.fileno(), self._woken):
                self._epoll.register(waited, select.EPOLLIN)
            self._opened = opening.pop_all()

    def fileno(self) -> int:
        """Return what to wait for."""
        return self._epoll.fileno()

    def wake(self) -> None:
        """Make fileno() readable, from any thread."""
        os.eventfd_write(self._woken, 1)

    def enter(self) -> None:
        """Switch to the alternate screen and let keys through as they are typed; Ctrl-C still interrupts."""
        if self._before is None:
            self._before = termios.tcgetattr(self._keyboard)
            with suppress(KernelError):  # no process can be started: `reset` is left to the user
                leave = LEAVE.encode()
                self._guardian = Guardian(self._keyboard, self._stream.fileno(), self._changed(self._before), leave)
        termios.tcsetattr(self._keyboard, termios.TCSANOW, self._changed(self._before))
        self._shown = []
        self._write(ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was; safe to call at any time."""
        before, self._before = self._before, None
        if before is None:
            return
        with suppress(OSError, termios.error):  # it is gone
            termios.tcsetattr(self._keyboard, termios.TCSANOW, before)
        with suppress(XtraceError):
            self._write(LEAVE)
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    def leave_at_once(self) -> None:
        """The same without waiting for a terminal that takes no output."""
        if self._stream.is_ready():
            self.leave()

    def close(self) -> None:
        """Leave, and release everything."""
        self.leave()
        self._opened.close()

    def size(self) -> Size:
        """Return the size now."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._stream.fileno())
            if rows and columns:
                return Size(rows, columns)
        return Size(24, 80)  # a serial console does not know its own

    def typed(self) -> list[str]:
        """Return the keys since the last call. Raises EOFError when the terminal is gone."""
        while signals := self._signals.read():
            if signal.SIGTSTP in signals:
                self.leave()
                os.kill(os.getpid(), signal.SIGSTOP)
            if signal.SIGCONT in signals:  # a shell has written here meanwhile
                self.enter()
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        poll = select.poll()
        poll.register(self._keyboard, select.POLLIN)
        data = b""
        while poll.poll(SEQUENCE_MS if keys.is_cut(data) else 0):
            piece = self._read()
            if not piece:
                raise EOFError
            data += piece
        return list(keys.decoded(data))

    def draw(self, lines: Sequence[str], cursor: tuple[int, int]) -> None:
        """Show `lines`, from the top; write only those that changed. `cursor`: its row and column, from 0."""
        size = self.size()
        parts = [BEGIN]
        if size != self._size or len(lines) < len(self._shown):
            parts.append(CLEAR)
            self._size, self._shown = size, []
        for row, line in enumerate(lines):
            if row >= len(self._shown) or line != self._shown[row]:
                # erased first: at the right edge the cursor stands on the last character
                parts.append(f"\x1b[{row + 1}H\x1b[K{line}\x1b[0m")
        parts.append(f"\x1b[{cursor[0] + 1};{cursor[1] + 1}H{FINISH}")
        self._shown = list(lines)
        self._write("".join(parts))

    def _changed(self, before: list[Any]) -> list[Any]:
        """Return the modes of the view, from those before."""
        modes = [*before]
        modes[INPUT_FLAGS] &= ~termios.IXON  # Ctrl-S would stop the output, and with it the run
        modes[LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
        characters = modes[CONTROL_CHARACTERS] = [*before[CONTROL_CHARACTERS]]
        # Ctrl-\ would end the process here and now
        characters[termios.VQUIT] = os.fpathconf(self._keyboard, "PC_VDISABLE").to_bytes(1, "big")
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        return modes

    def _read(self) -> bytes:
        try:
            return os.read(self._keyboard, 1024)
        except OSError:
            return b""

    def _write(self, text: str) -> None:
        self._stream.write(text.encode("utf-8", "surrogateescape"))
