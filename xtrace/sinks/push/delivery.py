"""Deliver batches to a server: a bounded queue, and a thread that sends, waits and retries.

The main thread only appends and never waits. Counters are cumulative and every sample has a timestamp, so a
batch that arrives late or twice changes no sum.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.own import Figures
from xtrace.sinks.push.acknowledged import Acknowledged
from xtrace.sinks.push.batch import Batch, Outcome, Transport
from xtrace.sinks.push.selfcheck import VISIBLE_AFTER_S, SelfCheck

log = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20
"""Limit of the queue; beyond it the oldest batch is dropped."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""Pause between attempts: doubles each time, randomly shortened by up to half to spread many senders."""

LONGEST_RETRY_AFTER_S = 300.0
PAUSE_AT_END_S = 0.25


class Delivery:
    """Owns the queue and the thread."""

    def __init__(
        self,
        transport: Transport,
        encoding: Encoding,
        limit: int = QUEUE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._encoding = encoding
        self._limit = limit
        self._clock = clock
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._raw: deque[Batch] = deque()
        """queued batches that are not compressed yet"""
        self._in_flight = False
        """whether the oldest batch is being sent"""
        self._changed = threading.Condition()
        self._figures = Figures()
        self._closes_at: float | None = None
        self._attempts = 0
        self._troubled_since: float | None = None
        self._last_rejection: str | None = None
        self._overflowing = False
        self._has_ended = False
        """whether a connection ended, or a request failed, since the last delivery"""
        self._check = SelfCheck(transport.times, transport.shown)
        self._acknowledged: Acknowledged[Batch] = Acknowledged(transport.times)
        # a request that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    @property
    def figures(self) -> Figures:
        """Current figures."""
        with self._changed:
            return replace(
                self._figures,
                waiting_batches=len(self._waiting),
                waiting_bytes=self._waiting_bytes,
                stored=self._check.stored,
            )

    def submit(self, batch: Batch) -> None:
        """Queue a batch; never waits for the network."""
        with self._changed:
            self._waiting.append(batch)
            self._raw.append(batch)
            self._waiting_bytes += len(batch.body)
            self._make_room()
            self._changed.notify()

    def close(self, limit_s: float) -> tuple[int, int]:
        """Deliver queued batches for at most `limit_s`; return the batches and samples left over."""
        with self._changed:
            self._closes_at = self._clock() + limit_s
            self._changed.notify()
        self._thread.join(limit_s)
        with self._changed:
            left = len(self._waiting), sum(batch.samples for batch in self._waiting)
        if not self._thread.is_alive():
            self._transport.close()
        return left

    def _make_room(self) -> None:
        """Drop the oldest batches beyond the limit, except one in flight and the newest."""
        oldest = int(self._in_flight)
        while len(self._waiting) > oldest + 1 and self._waiting_bytes > self._limit:
            batch = self._waiting[oldest]
            self._remove(batch)
            self._count_dropped("overflow", batch)
            if not self._overflowing:
                self._overflowing = True
                log.error(
                    "push to %s: more than %d MiB queued; dropping the oldest samples",
                    self._transport.shown,
                    self._limit >> 20,
                )

    def _remove(self, batch: Batch) -> None:
        self._waiting.remove(batch)  # always the first or the second
        self._waiting_bytes -= len(batch.body)
        batch.waits = False

    def _count_dropped(self, reason: str, batch: Batch) -> None:
        batches, samples = self._figures.dropped[reason]
        dropped = {**self._figures.dropped, reason: (batches + 1, samples + batch.samples)}
        self._figures = replace(self._figures, dropped=dropped)

    def _run(self) -> None:
        while (batch := self._next()) is not None or self._restore(ending=True):
            if batch is None:
                continue
            begun = self._clock()
            outcome = Outcome(True) if batch.in_doubt and self._has_stored(batch) else self._send(batch)
            batch.in_doubt = batch.in_doubt or outcome.unanswered
            took = self._clock() - begun
            self._has_ended = self._has_ended or outcome.reconnected or outcome.retry
            with self._changed:
                self._in_flight = False
                if not outcome.retry:
                    self._remove(batch)
            if outcome.delivered:
                self._delivered(batch, outcome, took)
                self._restore(ending=False)
            elif not outcome.retry:
                self._refused(batch, outcome.reason)
            else:
                self._failed(outcome)

    def _restore(self, ending: bool) -> bool:
        """Queue batches that the server has lost since it acknowledged them; return whether there are any."""
        if self._closes_at is not None and self._clock() >= self._closes_at:
            return False
        lost = self._acknowledged.lost(self._clock(), ending)
        if lost:
            with self._changed:
                for batch in reversed(lost):
                    batch.waits = True
                    self._waiting.appendleft(batch)
                    self._waiting_bytes += len(batch.body)
            log.warning(
                "push to %s: the server lost %d intervals; sending them again", self._transport.shown, len(lost)
            )
        return bool(lost)

    def _send(self, batch: Batch) -> Outcome:
        try:
            return self._transport.send(batch.body, self._encoding.headers)
        except Exception as error:  # noqa: BLE001 - if the thread ends, all samples are lost
            # the error's text could quote a secret
            return Outcome(False, True, f"{type(error).__name__} in the HTTP client")

    def _has_stored(self, batch: Batch) -> bool:
        """Return whether the server has stored a batch that it did not acknowledge; False if it cannot be queried."""
        if batch.probe is None:
            return False
        at_ms = batch.probe.at_ms
        return at_ms in (self._transport.times(batch.probe.selector, at_ms, at_ms) or ())

    def _next(self) -> Batch | None:
        """Wait for a batch and return the oldest, compressed; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._closes_at is not None:
                    return None
                self._changed.wait()
            if self._closes_at is not None and self._clock() >= self._closes_at:
                return None
        while True:
            self._pack()
            with self._changed:
                oldest = self._waiting[0]
                if oldest.is_packed:
                    self._in_flight = True
                    return oldest

    def _pack(self) -> None:
        """Compress new batches without blocking the main thread."""
        while True:
            with self._changed:
                if not self._raw:
                    return
                batch = self._raw.popleft()
            packed = self._encoding.compress(batch.body) if batch.waits else b""
            with self._changed:
                if batch.waits:  # not dropped in the meantime
                    self._waiting_bytes += len(packed) - len(batch.body)
                    batch.body, batch.is_packed = packed, True

    def _delivered(self, batch: Batch, outcome: Outcome, took: float) -> None:
        now = self._clock()
        with self._changed:
            left = len(self._waiting)
            figures = self._figures
            self._figures = replace(
                figures,
                requests=figures.requests + 1,
                samples=figures.samples + batch.samples,
                request_s=took,
                doubt=outcome.doubt,
            )
            self._overflowing = self._overflowing and left > 0
        if self._troubled_since is not None:
            log.info(
                "push to %s: delivering again after %.0f s; intervals queued: %d",
                self._transport.shown,
                now - self._troubled_since,
                left,
            )
        self._attempts, self._troubled_since, self._last_rejection = 0, None, None
        if outcome.doubt and not figures.doubt:
            log.warning(
                "push to %s: answered %s instead of 204 No Content: samples may not be stored (check the path)",
                self._transport.shown,
                outcome.doubt,
            )
        self._acknowledged.add(batch, now, self._has_ended)
        if self._has_ended:
            self._check.forget()
        self._has_ended = False
        if batch.probe is not None:
            self._check.delivered(batch.probe, now)

    def _refused(self, batch: Batch, reason: str) -> None:
        """The server permanently rejects this batch."""
        with self._changed:
            self._count_dropped("refused", batch)
        if reason != self._last_rejection:
            log.error("push to %s: rejected and dropped: %s", self._transport.shown, reason)
        self._attempts, self._troubled_since, self._last_rejection = 0, None, reason

    def _failed(self, outcome: Outcome) -> None:
        with self._changed:
            self._figures = replace(self._figures, failures=self._figures.failures + 1)
        if self._troubled_since is None:
            self._troubled_since = self._clock()
            log.error("push to %s: %s; samples are queued, retrying", self._transport.shown, outcome.reason)
        pause_s = self._pause(outcome.retry_after_s)
        self._wait(max(pause_s, VISIBLE_AFTER_S) if outcome.unanswered else pause_s)
        self._attempts += 1

    def _pause(self, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(retry_after_s, LONGEST_RETRY_AFTER_S)
        longest = min(FIRST_PAUSE_S * 2 ** min(self._attempts, 16), LONGEST_PAUSE_S)
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads senders, no secret

    def _wait(self, pause_s: float) -> None:
        """Wait, compressing new batches meanwhile; only briefly once the process ends."""
        until = self._clock() + pause_s
        while True:
            self._pack()
            with self._changed:
                left = until - self._clock()
                if self._closes_at is not None:
                    left = min(left, PAUSE_AT_END_S, self._closes_at - self._clock())
                if left <= 0:
                    return
                self._changed.wait(left)
                if self._closes_at is not None:
                    return
