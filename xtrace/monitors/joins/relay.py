"""A monitor around another one, whose snapshots it changes or remembers."""

from __future__ import annotations

from typing import Generic, TypeVar

from xtrace.model.snapshot import Setup, Snapshot
from xtrace.monitors import Monitor

Yielded = TypeVar("Yielded", bound=Snapshot)


class Relay(Generic[Yielded]):
    """Passes all on to `source`; every snapshot goes through pass_on()."""

    def __init__(self, source: Monitor[Yielded]) -> None:
        self._source = source

    def pass_on(self, snapshot: Yielded) -> Yielded:
        """The snapshot that is yielded in its place."""
        raise NotImplementedError

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
        """Whether there is nothing left to watch."""
        return self._source.ended

    def fileno(self) -> int:
        """Readable when react() has something to do."""
        return self._source.fileno()

    def react(self) -> None:
        """Take note of what happened between ticks."""
        self._source.react()

    def tick(self) -> Yielded:
        """End the current interval, start the next."""
        return self.pass_on(self._source.tick())

    def finish(self) -> Yielded:
        """Detach everything, end the last interval."""
        return self.pass_on(self._source.finish())

    def close(self) -> None:
        """Release everything that the source holds."""
        self._source.close()
