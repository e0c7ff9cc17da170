"""What every mode has, whatever it watches: how it runs, and one snapshot per tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Setup:
    """How a mode runs, as the start record shows it. Modes with more to show add their own kind."""

    map_memory: int = 0
    """bytes of kernel memory that its eBPF maps take"""


@dataclass(frozen=True)
class Snapshot:
    """One tick of one monitor: what happened in the interval that ended at `end_ns`."""

    mode: ClassVar[str]
    """the mode it belongs to, by which sinks find what renders it (sinks/kinds.py)"""

    end_ns: int
    """wall clock, ns since the epoch"""
    interval_ns: int
    """measured length"""

    @property
    def failure(self) -> str:
        """Why a run that ends with this snapshot has failed, as one line; empty if it has not."""
        return ""
