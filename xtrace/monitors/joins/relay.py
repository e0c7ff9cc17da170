"""A monitor around another one, which changes or keeps what that tells."""

from __future__ import annotations

from typing import Generic, TypeVar

from xtrace.model.snapshot import Snapshot
from xtrace.monitors import Monitor

Told = TypeVar("Told", bound=Snapshot)


class Relay(Generic[Told]):
    """Passes all on to `source`; every snapshot goes through pass_on()."""

    def __init__(self, source: Monitor[Told]) -> None:
        self._source = source

    def pass_on(self, snapshot: Told) -> Told:
        """What is told instead."""
        raise NotImplementedError

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

    def tick(self) -> Told:
        """End the current interval, start the next."""
        return self.pass_on(self._source.tick())

    def finish(self) -> Told:
        """Detach everything, end the last interval."""
        return self.pass_on(self._source.finish())

    def close(self) -> None:
        """Release everything that the source holds."""
        self._source.close()
