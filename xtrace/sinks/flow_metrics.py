"""Flows as series: bounded."""

from __future__ import annotations

from xtrace.flow import FlowSnapshot
from xtrace.sinks.exposition import Exposition


class FlowMetrics:
    """State of all series."""

    def __init__(self, most: int, constant: str) -> None:
        self._most, self._constant = most, constant

    def state(self) -> tuple[int, int]:
        """State."""
        return 0, 0

    def write(self, snapshot: FlowSnapshot, into: Exposition) -> None:
        """Render."""
