"""Work that users cause, shared out by user: nobody's work waits for all of somebody else's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

TURN_NS = 100_000_000
"""A piece of work goes on for so long before the next one of the same user."""

FORGIVEN_NS = 1_000_000


class Turns:
    """Iterators to be run to their end, each by its user and a name.

    The next step is taken for the user whose steps took the least time lately; of that user's work, what waits longest.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._waiting: dict[int, dict[int, Iterator[None]]] = {}
        """user -> name -> work; the first one is under way"""
        self._spent: dict[int, int] = {}
        """ns by user, halved now and then"""
        self._turn_ns = 0
        """of the work under way"""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, user: int, name: int, work: Iterator[None]) -> None:
        """Queue work, unless some of the same name waits."""
        self._waiting.setdefault(user, {}).setdefault(name, work)

    def step(self) -> None:
        """Run one step. There must be work."""
        user = min(self._waiting, key=lambda user: self._spent.get(user, 0))
        queue = self._waiting[user]
        name = next(iter(queue))
        begun = self._clock()
        ended = next(queue[name], self) is self
        took = self._clock() - begun
        self._spent[user] = self._spent.get(user, 0) + took
        self._turn_ns += took
        if ended:
            del queue[name]
        elif self._turn_ns > TURN_NS:
            queue[name] = queue.pop(name)
        else:
            return
        self._turn_ns = 0
        if not queue:
            del self._waiting[user]

    def forgive(self) -> None:
        """Halve what users have spent."""
        self._spent = {user: spent // 2 for user, spent in self._spent.items() if spent > FORGIVEN_NS}
