"""Reads that fail are not repeated at every tick: some firmware writes each into the kernel's log."""

from __future__ import annotations

import time
from collections.abc import Callable

from xtrace.errors import error_name

FIRST_PAUSE_NS = 10_000_000_000
LONGEST_PAUSE_NS = 600_000_000_000
"""A read that fails is tried again after 10 s, 20 s, ... at most 10 minutes: some firmware logs every one."""


class Backoff:
    """What fails, and when it may be tried again."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._failing: dict[str, tuple[int, int, str]] = {}
        """what -> when it may be tried again, the pause after that, why it failed"""

    def reason(self, what: str) -> str | None:
        """Why `what` is not to be tried now; None if it is."""
        if not self._failing:
            return None
        until, _, why = self._failing.get(what, (0, 0, ""))
        return why if self._clock() < until else None

    def failed(self, what: str, why: str) -> str:
        """Note a failure; `why`."""
        _, pause, _ = self._failing.get(what, (0, FIRST_PAUSE_NS, ""))
        self._failing[what] = (self._clock() + pause, min(2 * pause, LONGEST_PAUSE_NS), why)
        return why

    def succeeded(self, what: str) -> None:
        """Note that it works."""
        if self._failing:
            self._failing.pop(what, None)


def why(error: OSError | ValueError) -> str:
    """A failed read in a few words."""
    if isinstance(error, OSError):
        return error_name(error.errno or 0)
    return f"no number: {error}"
