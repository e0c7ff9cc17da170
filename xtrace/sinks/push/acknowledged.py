"""Batches that a server acknowledged lately. If it lost them because it was killed, they are sent again.

VictoriaMetrics acknowledges samples that it holds in memory and writes them within seconds; `kill -9` loses those. It
also ends all connections. So after a new connection, what was acknowledged before it is read back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeVar

from xtrace.sinks.push.selfcheck import VISIBLE_AFTER_S, Probe, Times

KEPT_S = 30.0
"""Before the last acknowledgement. VictoriaMetrics writes within 5 s (-inmemoryDataFlushInterval)."""
KEPT_BYTES = 8 << 20


class Kept(Protocol):
    """What is read of a batch."""

    size: int
    probe: Probe | None


KeptBatch = TypeVar("KeptBatch", bound=Kept)


@dataclass(eq=False)
class _Entry(Generic[KeptBatch]):
    batch: KeptBatch
    probe: Probe
    acknowledged_at: float
    check_at: float | None = None
    """set once its connection has ended"""
    asked_until: float = inf
    """when to give up, if the server does not say what it has"""


class Acknowledged(Generic[KeptBatch]):
    """The batches, oldest first; times are seconds, monotonic."""

    def __init__(
        self,
        times: Times,
        forget: Callable[[KeptBatch], None],
        most_bytes: int = KEPT_BYTES,
        kept_s: float = KEPT_S,
    ) -> None:
        """`forget` is called with each batch that is not kept any more, unless it was lost."""
        self._kept_s = kept_s
        self._times = times
        self._forget = forget
        self._most_bytes = most_bytes
        self._entries: deque[_Entry[KeptBatch]] = deque()

    def resume(self, batches: Iterable[KeptBatch], now: float) -> None:
        """Keep what was acknowledged in an earlier run: to be checked, as if its connection had just ended."""
        for batch in batches:
            if batch.probe is not None:
                self._entries.append(_Entry(batch, batch.probe, now, now + VISIBLE_AFTER_S))

    def add(self, batch: KeptBatch, now: float, reconnected: bool) -> None:
        """Keep a batch that was just acknowledged, over a new connection or the same as before."""
        if reconnected:
            for entry in self._entries:
                entry.check_at = entry.check_at or now + VISIBLE_AFTER_S
        if batch.probe is not None:
            self._entries.append(_Entry(batch, batch.probe, now))
        else:
            self._forget(batch)
        while self._entries and (self._is_old(self._entries[0], now) or self._size() > self._most_bytes):
            self._forget(self._entries.popleft().batch)

    def lost(self, now: float, ending: bool) -> list[KeptBatch]:
        """Return the batches that the server has lost, each once. Queries it only if a check is due, or at the end.

        The others stay until they are old: the server may be killed again.
        """
        suspects = [entry for entry in self._entries if entry.check_at and (ending or entry.check_at <= now)]
        if not suspects:
            return []
        at_ms = [entry.probe.at_ms for entry in suspects]
        found = self._times(suspects[0].probe.selector, min(at_ms), max(at_ms))
        if found is None:
            self._ask_again(suspects, now)
            return []
        for entry in suspects:
            # until the next connection: what is visible may still be in memory only
            entry.check_at, entry.asked_until = None, inf
        lost = {id(entry): entry.batch for entry in suspects if entry.probe.at_ms not in found}
        self._entries = deque(entry for entry in self._entries if id(entry) not in lost)
        return list(lost.values())

    def _ask_again(self, suspects: Iterable[_Entry[KeptBatch]], now: float) -> None:
        """The server did not answer: it may be busy. One that never does is asked for as long as batches are kept."""
        for entry in suspects:
            entry.asked_until = min(entry.asked_until, now + self._kept_s)
            again = now + VISIBLE_AFTER_S
            entry.check_at = again if again <= entry.asked_until else None

    def _size(self) -> int:
        return sum(entry.batch.size for entry in self._entries)

    def _is_old(self, entry: _Entry[KeptBatch], now: float) -> bool:
        return entry.check_at is None and entry.acknowledged_at < now - self._kept_s
