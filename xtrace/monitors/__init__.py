"""Where snapshots come from. Every monitor has the same few methods."""

from __future__ import annotations

from typing import Protocol, TypeVar

from xtrace.model.snapshot import Snapshot

Told = TypeVar("Told", bound=Snapshot, covariant=True)


class Monitor(Protocol[Told]):
    """Yields one Snapshot per tick, always of the same kind."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to watch."""

    def fileno(self) -> int:
        """Readable when react() has something to do; -1 where nothing happens between ticks."""

    def react(self) -> None:
        """Take note of what happened between ticks."""

    def tick(self) -> Told:
        """End the current interval, start the next."""

    def finish(self) -> Told:
        """Detach everything, end the last interval."""

    def close(self) -> None:
        """Release everything; packets since the last snapshot are not counted."""
