"""Where snapshots go. Every sink has the same few methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xtrace.model.snapshot import Setup, Snapshot

if TYPE_CHECKING:
    from xtrace.sinks.registry import Totals


@dataclass(frozen=True)
class Run:
    """What is known when the first interval starts."""

    version: str
    interval_s: float
    modes: tuple[str, ...]
    setups: Mapping[str, Setup] = field(default_factory=dict)
    """by mode"""


class Sink(Protocol):
    """Receives the run's start, each snapshot, and the run's end, in this order."""

    def start(self, run: Run) -> None:
        """The first interval starts."""

    def write(self, snapshot: Snapshot) -> None:
        """One interval of one monitor has ended."""

    def flush(self) -> None:
        """All snapshots of this tick have been written."""

    def end(self, totals: Totals) -> None:
        """The last interval has been written."""
