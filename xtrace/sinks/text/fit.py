"""Fits text into columns of a terminal: endpoints shortened in the middle of their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = ".."
"""Stands for what is left out. ASCII: every console shows it, in one column each."""


class Endpoint(NamedTuple):
    """One end of a flow."""

    address: str
    suffix: str = ""
    """the port or queue pair, never shortened"""
    brackets: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]{self.suffix}" if self.brackets else f"{self.address}{self.suffix}"

    def fitted(self, width: int | None) -> str:
        """Return the text in at most `width` columns (None: no limit), whatever of the address that costs."""
        text = str(self)
        if width is None or len(text) <= width:
            return text
        room = width - (len(text) - len(self.address))
        return str(self._replace(address=middle_out(self.address, room)))


def middle_out(text: str, width: int) -> str:
    """Return `text` with its middle replaced by `..` if it is wider than `width`; at least its first character."""
    if len(text) <= width:
        return text
    kept = max(1, width - len(GAP))
    head = -(-kept // 2)
    return text[:head] + GAP + text[len(text) - (kept - head) :]


def cut(text: str, width: int | None) -> str:
    """Return `text` with its end replaced by `..` if it is wider than `width`."""
    if width is None or len(text) <= width:
        return text
    return (text[: max(0, width - len(GAP))] + GAP)[:width]


def shares(needs: Sequence[int], room: int) -> tuple[int, ...]:
    """Return how many columns of `room` each gets: what it needs, or an equal part of what the others leave."""
    given = [0] * len(needs)
    for place, index in enumerate(sorted(range(len(needs)), key=needs.__getitem__)):
        given[index] = min(needs[index], max(0, room) // (len(needs) - place))
        room -= given[index]
    return tuple(given)
