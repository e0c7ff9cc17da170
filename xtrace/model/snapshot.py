"""What every monitor yields per tick, whatever it watches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Snapshot:
    """One tick of one monitor: what happened in the interval that ended at `end_ns`."""

    end_ns: int
    """wall clock, ns since the epoch"""
    interval_ns: int
    """measured length"""
