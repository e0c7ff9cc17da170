"""Where snapshots go. Every sink has the same few methods."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from xtrace.model.confinement import CONFINED, Confinement

if TYPE_CHECKING:
    from xtrace.model.snapshot import Setup, Snapshot
    from xtrace.sinks.registry import Totals


class Run(NamedTuple):
    """How a run is configured, known when its first interval starts."""

    version: str
    interval_s: float
    modes: tuple[str, ...]
    setups: Mapping[str, Setup] = MappingProxyType({})
    """by mode"""
    confinement: Confinement = CONFINED


class Sink(Protocol):
    """Receives the start of a run, each snapshot, and the end of the run, in this order."""

    def start(self, run: Run) -> None:
        """Take note that the first interval starts."""

    def write(self, snapshot: Snapshot) -> None:
        """Write one interval of one monitor."""

    def flush(self) -> None:
        """Finish a tick: all its snapshots have been written."""

    def end(self, totals: Totals) -> None:
        """Finish the run: its last interval has been written."""


class Reacting(Protocol):
    """What has work between ticks."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when react() has work; -1 if there never is any."""

    def react(self) -> None:
        """Do it."""
