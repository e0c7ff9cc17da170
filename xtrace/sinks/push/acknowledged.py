"""Batches that a server acknowledged lately. If it lost them because it was killed, they are sent again.

VictoriaMetrics acknowledges samples that it holds in memory and writes them within seconds; `kill -9` loses those. It
also ends all connections. So after a new connection, what was acknowledged before it is read back.

What is not found may only be not visible yet: that it is lost shows once something that was acknowledged later is
visible. What is found may be stored in part, as a request's samples are not written all at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeVar

from xtrace.sinks.push.selfcheck import VISIBLE_AFTER_S, Probe, Times

KEPT_S = 30.0
"""Before the last acknowledgement. VictoriaMetrics writes within 5 s (-inmemoryDataFlushInterval)."""
KEPT_BYTES = 8 << 20
SETTLES_S = 2.0
"""VictoriaMetrics shows what is this much older at the latest together with a sample."""
UNSURE_S = 30.0
"""How long before the last acknowledgement, or before that of something lost, a batch may be stored in part."""


class Kept(Protocol):
    """What is read of a batch."""

    size: int
    probe: Probe | None
    acknowledged_at: float | None
    changed_at: float


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
    is_unsure: bool = False
    """whether it may be stored in part even if it is found"""
    is_fresh: bool = True
    """whether it was sent when it was acknowledged, and not found: what is fresh and visible shows how far that goes"""


@dataclass(frozen=True)
class Lost(Generic[KeptBatch]):
    """What a server has lost."""

    batches: Sequence[KeptBatch]
    """oldest first; some may be stored in part, or whole"""
    missing: int = 0
    """how many of them were not found"""


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
        found = list(batches)
        newest = max((batch.changed_at for batch in found), default=0.0)
        for batch in found:
            batch.acknowledged_at = now - (newest - batch.changed_at)
            if batch.probe is not None:
                self._entries.append(_Entry(batch, batch.probe, batch.acknowledged_at, is_fresh=False))
        self._suspect(now, abruptly=True)

    def add(
        self,
        batch: KeptBatch,
        now: float,
        *,
        reconnected: bool,
        abruptly: bool = False,
        is_fresh: bool = True,
        is_found: bool = False,
    ) -> None:
        """Keep a batch that was just acknowledged, over the same connection as before or a new one.

        `abruptly`: the server had not said that it would close the one before. `is_fresh`: the server had none of it.
        `is_found`: it had all of it, so that nothing was sent, and it gets no younger: else one would be looked for
        again and again where connections end between any two batches.
        """
        if reconnected:
            self._suspect(now, abruptly)
        if batch.acknowledged_at is None or not is_found:
            batch.acknowledged_at = now
        if batch.probe is not None:
            self._entries.append(_Entry(batch, batch.probe, batch.acknowledged_at, is_fresh=is_fresh))
            self._entries = deque(sorted(self._entries, key=lambda entry: entry.acknowledged_at))
        else:
            self._forget(batch)
        while self._entries and (self._is_old(self._entries[0], now) or self._size() > self._most_bytes):
            self._forget(self._entries.popleft().batch)

    def lost(self, now: float, ending: bool) -> Lost[KeptBatch]:
        """Return the batches that the server may have lost, each once. Asks it only if a check is due, or at the end.

        The others stay until they are old: the server may be killed again.
        """
        suspects = [entry for entry in self._entries if entry.check_at and (ending or entry.check_at <= now)]
        if not suspects:
            return Lost([])
        at_ms = [entry.probe.at_ms for entry in self._entries]
        found = self._times(suspects[0].probe.selector, min(at_ms), max(at_ms))
        for entry in suspects:
            # until the next connection: what is visible may still be in memory only
            entry.check_at = None
        if found is None:
            self._ask_again(() if ending else suspects, now)
            return Lost([])
        seen = (entry.acknowledged_at for entry in self._entries if entry.is_fresh and entry.probe.at_ms in found)
        settles = max(seen, default=-inf) - SETTLES_S
        missing = [entry for entry in suspects if entry.probe.at_ms not in found]
        settled = [entry for entry in missing if entry.acknowledged_at <= settles]
        unsure_from = min((entry.acknowledged_at for entry in settled), default=inf) - UNSURE_S
        unsure = [entry for entry in suspects if entry.is_unsure or entry.acknowledged_at >= unsure_from]
        gone = {id(entry) for entry in (*settled, *unsure) if entry.acknowledged_at <= settles}
        left = [entry for entry in (*missing, *unsure) if id(entry) not in gone]
        self._ask_again(left, now)
        lost = [entry.batch for entry in self._entries if id(entry) in gone]
        self._entries = deque(entry for entry in self._entries if id(entry) not in gone)
        return Lost(lost, len(settled))

    @property
    def unknown(self) -> int:
        """Return how many batches the server may have lost, as far as it has shown."""
        return sum(1 for entry in self._entries if entry.check_at is not None)

    def _suspect(self, now: float, abruptly: bool) -> None:
        """Have all batches checked."""
        newest = max((entry.acknowledged_at for entry in self._entries), default=0.0)
        for entry in self._entries:
            entry.check_at = entry.check_at or now + VISIBLE_AFTER_S
            entry.asked_until = inf
            entry.is_unsure = entry.is_unsure or (abruptly and newest - entry.acknowledged_at <= UNSURE_S)

    def _ask_again(self, suspects: Iterable[_Entry[KeptBatch]], now: float) -> None:
        """The server did not answer: it may be busy. One that never does is asked for as long as batches are kept."""
        for entry in suspects:
            entry.asked_until = min(entry.asked_until, now + self._kept_s)
            again = now + VISIBLE_AFTER_S
            if again <= entry.asked_until:
                entry.check_at = again

    def _size(self) -> int:
        return sum(entry.batch.size for entry in self._entries)

    def _is_old(self, entry: _Entry[KeptBatch], now: float) -> bool:
        return entry.check_at is None and entry.acknowledged_at < now - self._kept_s
