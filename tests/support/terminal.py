"""A terminal for tests: shows what programs write to a pseudoterminal, as far as this tool's sequences go."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support.net import TIMEOUT_S

SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")

CHARACTERS = 19
"""NCCS in the kernel's asm-generic/termbits.h."""

PASTE = "2004"
"""The mode in which shells tell what is pasted."""


def kernels(modes: list[Any]) -> list[Any]:
    """What tcgetattr() has returned, without the characters that libc has room for and the kernel does not fill."""
    characters = modes[6]
    return [*modes[:6], characters[:CHARACTERS] + [b"\0"] * (len(characters) - CHARACTERS)]


def modes_of(terminal: int) -> list[Any]:
    """Of a terminal, as the kernel has them; good for tcsetattr()."""
    return kernels(termios.tcgetattr(terminal))


class Screen:
    """Characters, modes and cursor after some output. An unknown sequence is an error: nothing else may be sent."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.is_alternate = False
        self.wraps = self.has_cursor = True
        self.row = self.column = 0
        self.styles: set[str] = set()
        self._other: list[list[str]] = []
        self._cells = self._empty()
        self._left = ""

    def lines(self) -> list[str]:
        """The text of each line."""
        return ["".join(cells).rstrip() for cells in self._cells]

    def resize(self, rows: int, columns: int) -> None:
        """Another size; terminals keep what they can, this one nothing."""
        self.rows, self.columns = rows, columns
        self._cells = self._empty()

    def feed(self, text: str) -> None:
        """Show more output."""
        text, self._left = self._left + text, ""
        place = 0
        while place < len(text):
            if text[place] != "\x1b":
                self._put(text[place])
                place += 1
            elif found := SEQUENCE.match(text, place):
                self._act(found[1], found[2], found[3])
                place = found.end()
            else:
                self._left = text[place:]
                assert len(self._left) < 16, f"unknown sequence: {self._left[:16]!r}"
                return

    def _empty(self) -> list[list[str]]:
        return [[" "] * self.columns for _ in range(self.rows)]

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\b":
            self.column -= 1
        elif character == "\n":
            self.row += 1
            if self.row == self.rows:
                self._cells = [*self._cells[1:], [" "] * self.columns]
                self.row -= 1
        else:
            assert character.isprintable(), f"{character!r} reached the terminal"
            if self.column == self.columns and self.wraps:
                self._put("\r")
                self._put("\n")
            self.column = min(self.column, self.columns - 1)
            self._cells[self.row][self.column] = character
            self.column += 1

    def _act(self, private: str, parameters: str, final: str) -> None:
        numbers = [int(number or 1) for number in parameters.split(";")]
        if private:
            self._set(parameters, final == "h")
        elif final == "H":
            self.row, self.column = numbers[0] - 1, (numbers[1:] or [1])[0] - 1
            assert self.row < self.rows and self.column < self.columns
        elif final == "K":
            self._cells[self.row][self.column :] = [" "] * (self.columns - self.column)
        elif final == "C":
            self.column += numbers[0]
        elif final == "J":
            self._cells = self._empty()
        else:
            assert final == "m", f"unknown sequence: {parameters}{final}"
            self.styles.add(parameters)

    def _set(self, mode: str, is_on: bool) -> None:
        if mode == "1049":
            self.is_alternate = is_on
            self._other, self._cells = self._cells, self._other or self._empty()
        elif mode == "7":
            self.wraps = is_on
        elif mode == "25":
            self.has_cursor = is_on
        else:
            assert mode == PASTE, f"unknown mode {mode}"


class Terminal:
    """A pseudoterminal that is read all the time, so that its program never waits, with the screen it shows.

    `theirs` is the program's side.
    """

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self.ours, self.theirs = pty.openpty()
        self._screen = Screen(rows, columns)
        self._changed = threading.Condition()
        self._is_closed = False
        self.resize(rows, columns)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.ours, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel signals it to the program in the foreground, if there is one."""
        with self._changed:
            if (rows, columns) != (self._screen.rows, self._screen.columns):
                self._screen.resize(rows, columns)
            fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def modes(self) -> list[Any]:
        """What tcgetattr() returns."""
        return modes_of(self.ours)

    def lines(self) -> list[str]:
        """What is on the screen now."""
        with self._changed:
            return self._screen.lines()

    def until(self, holds: Callable[[Screen], object], limit_s: float = TIMEOUT_S) -> list[str]:
        """Wait until `holds` is true of the screen; its lines then. AssertionError if it never is."""
        with self._changed:
            found = self._changed.wait_for(lambda: holds(self._screen), limit_s)
            assert found, "the screen never showed it, but:\n" + "\n".join(self._screen.lines())
            return self._screen.lines()

    def until_shown(self, *texts: str) -> list[str]:
        """Wait until all of `texts` are on the screen; its lines."""
        return self.until(lambda screen: all(text in "\n".join(screen.lines()) for text in texts))

    def release(self) -> None:
        """Close the program's side here: only the program has it open then."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def close(self) -> None:
        """Close everything; programs get a hangup."""
        self.release()
        self._reader.join()
        os.close(self.ours)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(OSError):  # EIO: its last program is gone
            while piece := os.read(self.ours, 65536):
                with self._changed:
                    self._screen.feed(decoder.decode(piece))
                    self._changed.notify_all()
