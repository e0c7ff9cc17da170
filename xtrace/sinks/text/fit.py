"""Fits text into columns of a terminal: endpoints shortened in the middle of their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = ".."
"""Stands for what is left out. ASCII: every console shows it, in one column each."""
GAPS = ("  ", " ")
"""Between columns; the second where the first would not fit."""
LEAST_ADDRESS = 8
"""Columns of an address that no details are worth."""
LEAST_DETAILS, MORE_DETAILS = 4, 8
"""Columns of details for which an address loses its middle; the second if it has to lose it anyway."""


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
    """Return `text`, which is wider than `width`, with its middle replaced by `..`; at least its first character."""
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


def followed(destination: Endpoint, details: str, room: int | None, share: int) -> str:
    """Return a destination and the details behind it in at most `room` columns (None: no limit).

    The details get what its `share` leaves, but at least LEAST_DETAILS: they are cut at the end, a port never is.
    """
    if not details:
        return destination.fitted(room)
    if room is None:
        return f"{destination}{GAPS[0]}{details}"
    gap = next((gap for gap in GAPS if len(str(destination)) + len(gap) + len(details) <= room), GAPS[-1])
    least = LEAST_DETAILS if len(str(destination)) <= share else MORE_DETAILS
    kept = min(len(details), least) + len(gap)
    floor = len(str(destination)) - len(destination.address) + LEAST_ADDRESS
    end = destination.fitted(max(0, min(share, max(floor, room - kept))))
    return f"{end}{gap}{cut(details, max(0, room - len(end) - len(gap)))}"
