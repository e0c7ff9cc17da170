"""A monitor whose readings may take long: it is read in a thread, so that no other mode waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from xtrace.messages import Say
from xtrace.model.snapshot import Snapshot
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay

Yielded = TypeVar("Yielded", bound=Snapshot)

MOST_PATIENCE_S = 1.0
"""How long a tick waits for a reading, and half an interval at most."""
LATE_PATIENCE_S = 0.01
"""The same for a reading that a tick has waited for already."""
END_S = 1.0
"""How long the last reading may take; a slower one is left behind with the thread."""


class Apart(Relay[Yielded]):
    """Yields the snapshots of `source`; None in a tick in which it has not answered yet.

    Such a snapshot comes with a later tick. It then covers all the time since the one before.
    """

    def __init__(self, source: Monitor[Yielded], interval_s: float, say: Say, *, at_flip: bool = False) -> None:
        """`at_flip`: begin to read when the interval ends, not when the tick comes to this monitor."""
        super().__init__(source)
        self._at_flip = at_flip
        self._patience_s = min(interval_s / 2, MOST_PATIENCE_S)
        self._say = say
        self._is_reported = False
        self._requests: queue.SimpleQueue[Callable[[], Yielded | None] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Yielded | Exception | None] = queue.SimpleQueue()
        self._is_busy = False
        self._is_late = False
        """a tick has waited for the reading in vain"""
        self._has_finished = False
        self._thread = threading.Thread(target=self._run, name=f"mode {source.mode}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to watch."""
        return self._has_finished or self._source.ended

    def flip(self, last: bool = False) -> None:
        """Begin to read if that is wanted now; the interval ends with the reading."""
        if self._at_flip and not self._is_busy:
            self._request(self._source.finish if last else self._source.tick)

    def tick(self) -> Yielded | None:
        """The reading that is under way, else a new one; None if it takes too long."""
        return self._read(self._source.tick, self._patience_s)

    def finish(self) -> Yielded | None:
        """The reading that is under way, else a last one; None if it takes too long."""
        self._has_finished = True
        return self._read(self._source.finish, END_S)

    def close(self) -> None:
        """Release what the source holds, unless the thread still uses it: then it ends with the process."""
        self._requests.put(None)
        if not self._is_busy:
            self._thread.join()
        if not self._thread.is_alive():
            self._source.close()

    def _read(self, read: Callable[[], Yielded | None], within_s: float) -> Yielded | None:
        if not self._is_busy:
            self._request(read)
        elif self._is_late and not self._has_finished:
            within_s = min(within_s, LATE_PATIENCE_S)
        try:
            answer = self._answers.get(timeout=within_s)
        except queue.Empty:
            self._is_late = True
            self._report(within_s)
            return None
        self._is_busy = self._is_late = False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _report(self, within_s: float) -> None:
        """Say once that records come late, and at the end always that the last do not come at all."""
        late = f"mode {self.mode}: no answer within {within_s:g} s"
        if self._has_finished:
            self._say(f"{late} at the end: what happened since its last records is left out")
        elif not self._is_reported:
            self._is_reported = True
            self._say(f"{late}: its records come later and cover more time")

    def _request(self, read: Callable[[], Yielded | None]) -> None:
        self._requests.put(read)
        self._is_busy = True

    def _run(self) -> None:
        while (read := self._requests.get()) is not None:
            self._answers.put(_outcome(read))


def _outcome(read: Callable[[], Yielded | None]) -> Yielded | Exception | None:
    """What it returns or raises."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
        return error
