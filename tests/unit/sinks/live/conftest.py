"""The full-screen view on a pseudoterminal, fed and looked at by a test."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

import pytest

from tests.support.net import TIMEOUT_S
from tests.support.terminal import Terminal
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.sinks import Run
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.live import terminal as terminal_module
from xtrace.sinks.live.graph import BLOCKS
from xtrace.sinks.live.notices import Notices
from xtrace.sinks.live.screen import Look
from xtrace.sinks.live.sink import Live
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text import screen as text_screen
from xtrace.stop import Stop


class Session:
    """One run of the view. What is typed is handled at once."""

    def __init__(self, stop: Stop, modes: tuple[str, ...], rows: int, columns: int, has_owners: bool) -> None:
        self.terminal = Terminal(rows, columns)
        self.before = self.terminal.modes()
        self.stop = stop
        theirs = self.terminal.theirs
        self.stream = OutputStream(theirs, stop)
        own = terminal_module.Terminal(theirs, self.stream)
        size = text_screen.Terminal(theirs)
        self.notices = Notices((), own.wake)
        after = text_screen.TerminalText(self.stream, TextOptions(screen=size), size)
        self.live = Live(own, Look(True, BLOCKS), self.notices, stop, after)
        setups = {mode: FlowSetup(has_owners=has_owners) if mode == "xdp" else Setup() for mode in modes}
        self.live.start(Run("1", 5, modes, setups))

    def tick(self, *snapshots: Snapshot) -> None:
        """End an interval."""
        for snapshot in snapshots:
            self.live.write(snapshot)
        self.live.flush()

    def press(self, text: str) -> None:
        """Type `text`, and let the view handle it."""
        self.terminal.type(text)
        self.react()

    def react(self) -> None:
        """Wait until there is something to react to."""
        assert select.select([self.live], [], [], TIMEOUT_S)[0]
        self.live.react()

    def close(self) -> None:
        """End the run, as the loop's owner would."""
        self.live.close()
        self.terminal.close()


Begin = Callable[..., Session]


@pytest.fixture
def begin(stop: Stop) -> Iterator[Begin]:
    """A function that begins a run with some modes, on a terminal of some size."""
    opened: list[Session] = []

    def make(*modes: str, rows: int = 24, columns: int = 80, owners: bool = False) -> Session:
        opened.append(Session(stop, modes or ("xdp",), rows, columns, owners))
        return opened[-1]

    yield make
    for session in opened:
        session.close()
