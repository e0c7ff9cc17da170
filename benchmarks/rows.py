"""What the table is made of: rows, and rounds in which the things that are compared take turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ROUNDS = 9


@dataclass(frozen=True)
class Row:
    """A line of the table. `measure` returns what stands in it: ratios as that of the best rounds / of the medians."""

    name: str
    what: str
    goal: str
    measure: Callable[[], str]


class Rounds:
    """What each of several ways took, less what one of them, `floor`, took."""

    def __init__(self, ways: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, floor: str | None = None) -> None:
        self._floor = floor
        self._found: list[dict[str, float]] = [{name: way() for name, way in ways.items()} for _ in range(rounds)]

    def least(self, name: str) -> float:
        """The smallest of all rounds."""
        return self._of(min, name) - (self._of(min, self._floor) if self._floor else 0)

    def median(self, name: str) -> float:
        """The median of all rounds."""
        return statistics.median(each[name] - (each[self._floor] if self._floor else 0) for each in self._found)

    def ratio(self, one: str, other: str) -> str:
        """Of the smallest rounds, and of the medians."""
        return f"{self.least(one) / self.least(other):.2f} / {self.median(one) / self.median(other):.2f}"

    def rates(self, one: str, other: str) -> str:
        """The same where more is better: of the largest rounds, and of the medians."""
        return f"{self._of(max, one) / self._of(max, other):.3f} / {self.median(one) / self.median(other):.3f}"

    def _of(self, choose: Callable[[list[float]], float], name: str) -> float:
        return choose([each[name] for each in self._found])
