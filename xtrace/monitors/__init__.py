"""Where snapshots come from. Every monitor has the same few methods."""

from __future__ import annotations

from typing import Protocol

from xtrace.snapshot import Snapshot


class Monitor(Protocol):
    """Yields one Snapshot per tick."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to watch."""

    def fileno(self) -> int:
        """Readable when react() has something to do; -1 where nothing happens between ticks."""

    def react(self) -> None:
        """Take note of what happened between ticks."""

    def tick(self) -> Snapshot:
        """End the current interval, start the next."""

    def finish(self) -> Snapshot:
        """Detach everything, end the last interval."""

    def close(self) -> None:
        """Release everything; packets since the last snapshot are not counted."""
