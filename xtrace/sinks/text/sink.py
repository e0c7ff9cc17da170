"""Text output: every mode's lines, in local time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from typing import cast

from xtrace.model.snapshot import Snapshot
from xtrace.printable import harmless
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
        parts = encoded(self._kinds[snapshot.mode].lines(snapshot))
        try:
            for part in parts:
                self._stream.write(part)
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(part.count(b"\n") for part in parts)) from None

    def flush(self) -> None:
        """Nothing: lines are written at once."""

    def end(self, totals: Totals) -> None:
        """Nothing: text has no totals."""


def encoded(lines: Iterator[str | bytes]) -> Iterator[bytes]:
    """Yield whole lines, some at a time; what is bytes already as it is."""
    for is_ready, some in groupby(lines, key=lambda line: isinstance(line, bytes)):
        if is_ready:
            yield from cast("Iterator[bytes]", some)
            continue
        while part := [*islice(cast("Iterator[str]", some), LINES_AT_ONCE)]:
            yield b"".join(harmless(line[:-1]) + b"\n" for line in part)
