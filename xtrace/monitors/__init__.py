"""Monitors, which produce snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from xtrace.model.snapshot import Setup, Snapshot

Yielded = TypeVar("Yielded", bound="Snapshot", covariant=True)


class Monitor(Protocol[Yielded]):
    """Returns at most one Snapshot per tick, always of the same class."""

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

    def flip(self, last: bool = False) -> None:
        """End the current interval and start the next; detach everything if it is the last one.

        Brief: all monitors flip before any is read, so that no interval waits for another mode's reading.
        """

    def tick(self) -> Yielded | None:
        """Return the snapshot of the interval that flip() ended, or of one that ends now. None: a later tick has it."""

    def finish(self) -> Yielded | None:
        """Return the snapshot of the last interval."""

    def close(self) -> None:
        """Release everything; what happened since the last snapshot is lost."""
