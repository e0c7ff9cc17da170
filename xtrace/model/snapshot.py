"""Base classes of all modes' setups and snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Setup:
    """How a mode runs, as shown in the start record. Modes with more to show derive from it."""

    map_memory: int = 0
    """bytes of kernel memory of its eBPF maps"""


@dataclass(frozen=True)
class Snapshot:
    """The result of one tick of one monitor: what happened in the interval that ended at `end_ns`."""

    mode: ClassVar[str]
    """its mode, by which sinks find the renderer (sinks/registry.py)"""

    end_ns: int
    """wall clock, ns since the epoch"""
    interval_ns: int
    """measured length"""

    @property
    def failure(self) -> str:
        """Why a run that ends with this snapshot has failed, as one line; empty if it has not."""
        return ""
