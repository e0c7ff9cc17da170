"""Where snapshots come from. Every monitor has the same few methods."""

from __future__ import annotations

from typing import Protocol, TypeVar

from xtrace.model.snapshot import Setup, Snapshot

Yielded = TypeVar("Yielded", bound=Snapshot, covariant=True)


class Monitor(Protocol[Yielded]):
    """Yields at most one Snapshot per tick, always of the same kind."""

    @property
    def mode(self) -> str:
        """The mode whose snapshots it yields."""

    @property
    def setup(self) -> Setup:
        """How the mode runs."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to watch."""

    def fileno(self) -> int:
        """Readable when react() has something to do; -1 where nothing happens between ticks."""

    def react(self) -> None:
        """Take note of what happened between ticks."""

    def flip(self, last: bool = False) -> None:
        """End the current interval and start the next; detach everything if it is the last one.

        Brief: all monitors flip before any is read, so that no interval waits for another mode's reading.
        """

    def tick(self) -> Yielded | None:
        """The snapshot of the interval that flip() ended, or of one that ends now. None: it comes with a later tick."""

    def finish(self) -> Yielded | None:
        """The same of the last interval."""

    def close(self) -> None:
        """Release everything; packets since the last snapshot are not counted."""
