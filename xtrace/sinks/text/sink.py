"""Text: every mode's lines for people, in local time."""

from __future__ import annotations

from itertools import islice

from xtrace.model.snapshot import Snapshot
from xtrace.sinks import Run
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.registry import ByMode, Totals
from xtrace.sinks.stream import OutputBlocked, OutputStream

LINES_AT_ONCE = 1000


class Text:
    """Writes every snapshot of a run to a stream."""

    def __init__(self, stream: OutputStream, top: int = 0, with_direction: bool = False) -> None:
        self._stream = stream
        self.options = options = TextOptions(top, with_direction)
        self._kinds = ByMode(lambda kind: kind.text(options))

    def start(self, run: Run) -> None:
        """Nothing: stderr says what starts."""

    def write(self, snapshot: Snapshot) -> None:
        """All lines of one interval."""
        lines = self._kinds[snapshot.mode].lines(snapshot)
        try:
            while some := list(islice(lines, LINES_AT_ONCE)):
                # interface names are bytes, and go out as they came
                self._stream.write("".join(some).encode("utf-8", "surrogateescape"))
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(1 for _ in lines)) from None

    def flush(self) -> None:
        """Nothing: lines are written as they come."""

    def end(self, totals: Totals) -> None:
        """Nothing: the last interval's lines are the last."""
