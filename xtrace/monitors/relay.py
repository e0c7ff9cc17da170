"""A monitor that wraps another one, and changes or keeps its snapshots."""

from __future__ import annotations

from typing import Generic, TypeVar

from xtrace.model.snapshot import Setup, Snapshot
from xtrace.monitors import Monitor

Yielded = TypeVar("Yielded", bound=Snapshot)


class Relay(Generic[Yielded]):
    """Delegates to `source`; every snapshot goes through pass_on()."""

    def __init__(self, source: Monitor[Yielded]) -> None:
        self._source = source

    def pass_on(self, snapshot: Yielded) -> Yielded:
        """Return the snapshot to use in its place."""
        return snapshot

    def missed(self) -> None:
        """Note that the source has no snapshot of this interval."""

    @property
    def mode(self) -> str:
        """The source's mode."""
        return self._source.mode

    @property
    def setup(self) -> Setup:
        """How the source's mode runs."""
        return self._source.setup

    @property
    def ended(self) -> bool:
        """Whether nothing is left to monitor."""
        return self._source.ended

    def fileno(self) -> int:
        """Return a descriptor that is readable when react() has work."""
        return self._source.fileno()

    def react(self) -> None:
        """Handle events between ticks."""
        self._source.react()

    def flip(self, last: bool = False) -> None:
        """End the current interval."""
        self._source.flip(last)

    def tick(self) -> Yielded | None:
        """Return the source's snapshot of the interval that has ended, passed on."""
        return self._passed(self._source.tick())

    def finish(self) -> Yielded | None:
        """Return the last snapshot, passed on."""
        return self._passed(self._source.finish())

    def _passed(self, snapshot: Yielded | None) -> Yielded | None:
        if snapshot is None:
            self.missed()
            return None
        return self.pass_on(snapshot)

    def close(self) -> None:
        """Release everything held by the source."""
        self._source.close()
