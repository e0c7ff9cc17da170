"""Slots of interfaces in the tables: who has which, and when one is free again."""

from __future__ import annotations

from collections.abc import Iterable

from xtrace.monitors.flows.watched import Watched


class Slots:
    """Numbers from 0 to `count` - 1.

    Only the slot identifies an interface's packets. A program counts until it is detached, into the buffer that is
    drained next, so an interface that took its slot earlier would be credited with its packets. A slot is therefore
    free only once its owner has left the list of watched interfaces, after that drain; that of a program that could
    not be detached never is.
    """

    def __init__(self, count: int) -> None:
        self._numbers = range(count)
        self._lost: set[int] = set()
        """slots of programs that could not be detached and go on counting"""

    def __len__(self) -> int:
        return len(self._numbers)

    def free(self, watched: Iterable[Watched]) -> int | None:
        """The first free slot beside those of `watched`."""
        taken = {each.slot for each in watched} | self._lost
        return next((slot for slot in self._numbers if slot not in taken), None)

    def drained(self, watched: Iterable[Watched]) -> list[Watched]:
        """Those of `watched` that keep their slots after a drain."""
        watched = list(watched)
        self._lost |= {each.slot for each in watched if each.stays}
        return [each for each in watched if not each.lost]
