"""Backoff for failing reads, which some firmware logs to the kernel log each time."""

from __future__ import annotations

import time
from collections.abc import Callable

from xtrace.errors import error_name

FIRST_PAUSE_NS = 10_000_000_000
LONGEST_PAUSE_NS = 600_000_000_000
"""A failed read is retried after 10 s, then 20 s, and so on, up to 10 minutes."""


class Backoff:
    """Which reads fail, and when they may be retried."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._failing: dict[str, tuple[int, int, str]] = {}
        """what -> time of the next try, the pause after that, the reason"""

    def reason(self, what: str) -> str | None:
        """Return why `what` must not be read now; None if it may be."""
        if not self._failing:
            return None
        until, _, why = self._failing.get(what, (0, 0, ""))
        return why if self._clock() < until else None

    def failed(self, what: str, why: str) -> str:
        """Note a failure; return `why`."""
        _, pause, _ = self._failing.get(what, (0, FIRST_PAUSE_NS, ""))
        self._failing[what] = (self._clock() + pause, min(2 * pause, LONGEST_PAUSE_NS), why)
        return why

    def succeeded(self, what: str) -> None:
        """Note a success."""
        if self._failing:
            self._failing.pop(what, None)


def why(error: OSError | ValueError) -> str:
    """Describe a failed read in a few words."""
    if isinstance(error, OSError):
        return error_name(error.errno or 0)
    return f"not a number: {error}"
