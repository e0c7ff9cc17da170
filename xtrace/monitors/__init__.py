"""Monitors, which produce snapshots."""

from __future__ import annotations

from typing import Protocol, TypeVar

from xtrace.model.snapshot import Setup, Snapshot

Yielded = TypeVar("Yielded", bound=Snapshot, covariant=True)


class Monitor(Protocol[Yielded]):
    """Returns one Snapshot per tick, always of the same class."""

    @property
    def mode(self) -> str:
        """The mode of its snapshots."""

    @property
    def setup(self) -> Setup:
        """How the mode runs."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to monitor."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when react() has work; -1 if nothing happens between ticks."""

    def react(self) -> None:
        """Handle events between ticks."""

    def tick(self) -> Yielded:
        """End the current interval and start the next."""

    def finish(self) -> Yielded:
        """Detach everything and end the last interval."""

    def close(self) -> None:
        """Release everything; what happened since the last snapshot is lost."""
