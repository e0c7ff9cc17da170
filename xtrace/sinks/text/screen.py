"""The sink for a terminal: blocks with a blank line before each interval, and the sums of the run at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import cast

from xtrace.model.snapshot import Snapshot
from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks import Run
from xtrace.sinks.kinds import Screen, TextOptions
from xtrace.sinks.registry import ByMode, Totals
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text.units import counted

CONTINUED = "      "
"""Before the rest of a line that did not fit."""

STYLES = ("1", "1;33", "33", "33")
"""SGR parameters by rank: a block's title, then its largest flows. All others have none."""


class Ranked(str):
    """A line that stands out by its rank: 0 a title, 1 the largest flow."""

    rank: int

    def __new__(cls, text: str, rank: int) -> Ranked:
        """Return the line with its rank."""
        line = super().__new__(cls, text)
        line.rank = rank
        return line


def has_color(choice: str, is_terminal: bool, environment: Mapping[str, str]) -> bool:
    """Return whether to color: as --color says; `auto` on terminals, unless NO_COLOR is set (no-color.org)."""
    if choice != "auto":
        return choice == "always"
    return is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class Terminal:
    """The size of a terminal, at each interval; unlimited for anything else."""

    def __init__(self, fd: int, has_color: bool = False, is_wide: bool = False) -> None:
        self.has_color = has_color
        self.is_wide = is_wide
        self._fd = fd

    def columns(self) -> int | None:
        """Return the width, None if unlimited."""
        size = self._size()
        return None if self.is_wide or size is None else size.columns

    def rows(self) -> int | None:
        """Return the height, None if unlimited."""
        size = self._size()
        return None if size is None else size.lines

    def _size(self) -> os.terminal_size | None:
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:
            return None
        return size if size.columns and size.lines else None  # a serial console does not know its size


class TerminalText:
    """Writes every snapshot of a run for a person."""

    def __init__(self, stream: OutputStream, options: TextOptions, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self.options = options
        self._kinds = ByMode(lambda kind: kind.text(options))
        self._is_new = True

    def start(self, run: Run) -> None:
        """Nothing: the start is reported on stderr."""

    def write(self, snapshot: Snapshot) -> None:
        """Write all lines of one interval."""
        lines = [*cast("Iterator[str]", self._kinds[snapshot.mode].lines(snapshot))]
        if self._is_new and lines:
            lines.insert(0, "\n")
            self._is_new = False
        self._write(lines)

    def flush(self) -> None:
        """An interval has ended: the next one begins after a blank line."""
        self._is_new = True

    def end(self, totals: Totals) -> None:
        """Write the sums of the run."""
        lines = [f"\ntotals of {counted(totals.intervals, 'interval')}\n"]
        for mode, sums in totals.by_mode.items():
            lines += self._kinds[mode].totals(sums)
        self._write(lines if len(lines) > 1 else [])

    def _write(self, lines: list[str]) -> None:
        self._stream.write("".join(map(self._finished, lines)).encode("utf-8", "surrogateescape"))

    def _finished(self, line: str) -> str:
        """Return a line made harmless, within the width, in its color."""
        clean = printable(line, kept=RAW_BYTES + "\n")
        width = self._screen.columns()
        if width is not None and len(clean) > width + 1:
            clean = "".join(f"{part}\n" for part in _wrapped(clean, width))
        if self._screen.has_color and isinstance(line, Ranked) and line.rank < len(STYLES):
            return f"\x1b[{STYLES[line.rank]}m{clean[:-1]}\x1b[0m\n"
        return clean


def _wrapped(line: str, width: int) -> Iterator[str]:
    """Yield the parts of a line of words; its indentation stays."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    rest = indent + CONTINUED
    yield from wrap(line.strip(), width, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)
