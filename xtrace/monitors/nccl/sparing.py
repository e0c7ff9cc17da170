"""Lines about what other users' processes do: bounded, or any user could fill the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from xtrace.messages import Say

MOST_LINES = 200
EVERY_NS = 10_000_000_000
"""After MOST_LINES at once there is one more in this time."""


class Held:
    """Keeps lines back until release(): what they say of the run is true from then on. For several threads."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._lines: list[str] | None = []

    def __call__(self, text: str) -> None:
        """Hand a line on, or keep it."""
        with self._lock:
            if self._lines is None:
                self._say(text)
            else:
                self._lines.append(text)

    def release(self) -> None:
        """Hand on what was kept, and every line from now on."""
        with self._lock:
            for text in self._lines or ():
                self._say(text)
            self._lines = None


class Sparing:
    """Hands lines on, as many as may be; the first of those that follow counts the ones that were not."""

    def __init__(self, say: Say, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._say = say
        self._clock = clock
        self._left = MOST_LINES
        self._at = clock()
        self._dropped = 0

    def __call__(self, text: str) -> None:
        """Hand a line on, or count it."""
        earned = (self._clock() - self._at) // EVERY_NS
        self._left = min(self._left + earned, MOST_LINES)
        self._at += earned * EVERY_NS
        if self._left <= 0:
            self._dropped += 1
            return
        self._left -= 1
        if self._dropped:
            text += f" (mode nccl left out {self._dropped} such lines)"
            self._dropped = 0
        self._say(text)
