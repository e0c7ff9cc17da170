"""JSON Lines output: every mode's records; names and types are those of docs/output.schema.json."""

from __future__ import annotations

import time
from collections.abc import Iterator

from xtrace.model.snapshot import Snapshot
from xtrace.sinks import Run
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.lines import line
from xtrace.sinks.kinds import JsonOptions, Record
from xtrace.sinks.registry import ByMode, Totals
from xtrace.sinks.render import timestamp
from xtrace.sinks.stream import OutputBlocked, OutputStream

SCHEMA = 1


class JsonLines:
    """Writes every record of a run to a stream."""

    def __init__(self, stream: OutputStream, identity: Identity, top: int = 0, *, by_owner: bool = False) -> None:
        self._stream = stream
        self.options = options = JsonOptions(identity.record(), top, by_owner)
        self._kinds = ByMode(lambda kind: kind.json(options))

    def start(self, run: Run) -> None:
        """Write the `start` record."""
        record: Record = {
            "type": "start",
            "ts": timestamp(time.time_ns()),
            "schema": SCHEMA,
            **self.options.identity,
            "version": run.version,
            "interval_s": run.interval_s,
            "modes": list(run.modes),
            "landlock": run.confinement.why_no_landlock is None,
        }
        if run.confinement.why_no_landlock is not None:
            record["landlock_reason"] = run.confinement.why_no_landlock
        for mode, setup in run.setups.items():
            record |= self._kinds[mode].setup(setup)
        self._stream.write(line(record))

    def write(self, snapshot: Snapshot) -> None:
        """Write all records of one interval."""
        self._write_all(self._kinds[snapshot.mode].lines(snapshot))

    def _write_all(self, lines: Iterator[bytes]) -> None:
        try:
            for some in lines:
                self._stream.write(some)
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(some.count(b"\n") for some in lines)) from None

    def flush(self) -> None:
        """Nothing: records are written at once."""

    def end(self, totals: Totals) -> None:
        """Write the `end` record."""
        record: Record = {
            "type": "end",
            "ts": timestamp(time.time_ns()),
            **self.options.identity,
            "intervals": totals.intervals,
            "interfaces": [],
        }
        for mode, sums in totals.by_mode.items():
            record |= self._kinds[mode].totals(sums)
        self._stream.write(line(record))
