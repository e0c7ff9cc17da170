"""Failing reads are retried less and less often: some firmware writes each failure to the kernel log."""

from __future__ import annotations

import time
from collections.abc import Callable

from xtrace.errors import error_name

FIRST_PAUSE_NS = 10_000_000_000
LONGEST_PAUSE_NS = 600_000_000_000
"""A failing read is retried after 10 s, 20 s, ... at most 10 minutes."""


class Backoff:
    """Remembers failing reads and when to retry them."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._failing: dict[str, tuple[int, int, str]] = {}
        """what -> when to retry it, the pause after that, why it failed"""

    def reason(self, what: str) -> str | None:
        """Why `what` is not to be read now; None if it is."""
        known = self._failing.get(what)
        return known[2] if known and self._clock() < known[0] else None

    def failed(self, what: str, why: str) -> str:
        """Note a failure; returns `why`."""
        known = self._failing.get(what)
        pause = known[1] if known else FIRST_PAUSE_NS
        self._failing[what] = (self._clock() + pause, min(2 * pause, LONGEST_PAUSE_NS), why)
        return why

    def succeeded(self, what: str) -> None:
        """Note a success."""
        self._failing.pop(what, None)


def why(error: OSError | ValueError) -> str:
    """Why a read failed, in a few words."""
    if isinstance(error, OSError):
        return error_name(error.errno or 0)
    return f"not a number: {error}"
