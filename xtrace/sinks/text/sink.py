"""Text output: every mode's lines, in local time."""

from __future__ import annotations

from itertools import islice

from xtrace.model.snapshot import Snapshot
from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks import Run
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.registry import ByMode, Totals
from xtrace.sinks.stream import OutputBlocked, OutputStream

LINES_AT_ONCE = 1000


class Text:
    """Writes every snapshot of a run to a stream."""

    def __init__(
        self, stream: OutputStream, top: int = 0, with_direction: bool = False, *, by_owner: bool = False
    ) -> None:
        self._stream = stream
        self.options = options = TextOptions(top, with_direction, by_owner=by_owner)
        self._kinds = ByMode(lambda kind: kind.text(options))

    def start(self, run: Run) -> None:
        """Nothing: the start is reported on stderr."""

    def write(self, snapshot: Snapshot) -> None:
        """Write all lines of one interval."""
        lines = self._kinds[snapshot.mode].lines(snapshot)
        try:
            while some := list(islice(lines, LINES_AT_ONCE)):
                # names are bytes, written unchanged if they are harmless
                clean = (f"{printable(line[:-1], kept=RAW_BYTES)}\n" for line in some)
                self._stream.write("".join(clean).encode("utf-8", "surrogateescape"))
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(1 for _ in lines)) from None

    def flush(self) -> None:
        """Nothing: lines are written at once."""

    def end(self, totals: Totals) -> None:
        """Nothing: text has no totals."""
