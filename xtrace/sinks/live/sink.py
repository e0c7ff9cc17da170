"""The sink of --live: puts the screen on the terminal, and the keys into the screen."""

from __future__ import annotations

from contextlib import suppress

from xtrace.errors import XtraceError
from xtrace.model.snapshot import Snapshot
from xtrace.sinks import Run, Sink
from xtrace.sinks.live.notices import Notices
from xtrace.sinks.live.panes import panes_of
from xtrace.sinks.live.screen import Look, Screen
from xtrace.sinks.live.terminal import Terminal
from xtrace.sinks.registry import Totals
from xtrace.stop import Stop


class Live:
    """The Sink, which also reacts to keys between ticks. Owns the terminal from start() to end() or close()."""

    def __init__(self, terminal: Terminal, look: Look, notices: Notices, stop: Stop, after: Sink) -> None:
        """`after` is told the end of the run when the screen is gone."""
        self._terminal = terminal
        self._look = look
        self._notices = notices
        self._stop = stop
        self._after = after
        self._screen: Screen | None = None

    def start(self, run: Run) -> None:
        """Take the terminal."""
        self._screen = Screen(panes_of(run.setups), self._look, self._notices, self._stop.request)
        self._notices.install()
        self._stop.before_exit = self._terminal.leave_at_once
        self._terminal.enter()
        self._draw()

    def write(self, snapshot: Snapshot) -> None:
        """Take one interval of one mode."""
        if self._screen is not None:
            self._screen.take(snapshot)

    def flush(self) -> None:
        """Show the tick."""
        self._draw()

    def end(self, totals: Totals) -> None:
        """Give the terminal back, and print the totals of the run."""
        self.close()
        self._after.end(totals)

    def fileno(self) -> int:
        """Return the descriptor that is readable when react() has work."""
        return self._terminal.fileno()

    def react(self) -> None:
        """Handle keys, a new size, and messages of other threads."""
        if self._screen is None:
            return
        try:
            for key in self._terminal.typed():
                self._screen.press(key)
        except EOFError:
            self._stop.request()
            return
        with suppress(XtraceError):  # the next tick meets the same error, and reports it
            self._draw()

    def close(self) -> None:
        """Give the terminal back, however the run ends."""
        self._screen = None
        self._stop.before_exit = None
        self._terminal.close()
        self._notices.remove()

    def _draw(self) -> None:
        if self._screen is not None:
            size = self._terminal.size()
            self._terminal.draw(*self._screen.frame(size.rows, size.columns))
