"""Batches on their way to a server: a bounded queue, and a thread of its own that sends, waits and tries again.

What is counted goes on meanwhile: the main thread only appends. Counters are cumulative and every sample
has its time, so a batch that arrives late, or twice, changes no sum.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.own import Figures
from xtrace.sinks.push.selfcheck import Probe, SelfCheck

log = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20
"""What may wait; beyond it the oldest batch is dropped."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""Between attempts: doubled with each, and shortened by up to a half at random, so that many senders spread."""

LONGEST_RETRY_AFTER_S = 300.0
PAUSE_AT_END_S = 0.25


@dataclass(eq=False)
class Batch:
    """One tick's samples."""

    body: bytes
    samples: int
    probe: Probe | None = None
    is_packed: bool = False
    waits: bool = True
    """whether it is neither delivered nor dropped"""


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    delivered: bool
    retry: bool = False
    """whether it may go better later"""
    reason: str = ""
    retry_after_s: float | None = None


class Transport(Protocol):
    """Talks to one server."""

    shown: str
    """its name in messages"""

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body with headers that say what it is; never raises for what the server or the network does."""

    def stored(self, probe: Probe) -> bool | None:
        """Whether the server has the sample; None where it cannot be asked."""

    def close(self) -> None:
        """Give up the connections."""


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
        """those of them that are not packed"""
        self._in_flight = False
        """whether the oldest is being sent"""
        self._changed = threading.Condition()
        self._figures = Figures()
        self._closes_at: float | None = None
        self._attempts = 0
        self._troubled_since: float | None = None
        self._said_refused: str | None = None
        self._overflowing = False
        self._check = SelfCheck(transport.stored, transport.shown)
        # a request that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    @property
    def figures(self) -> Figures:
        """As of now."""
        with self._changed:
            return replace(
                self._figures,
                waiting_batches=len(self._waiting),
                waiting_bytes=self._waiting_bytes,
                stored=self._check.stored,
            )

    def submit(self, batch: Batch) -> None:
        """Take a batch; never waits for the network."""
        with self._changed:
            self._waiting.append(batch)
            self._raw.append(batch)
            self._waiting_bytes += len(batch.body)
            self._make_room()
            self._changed.notify()

    def close(self, limit_s: float) -> tuple[int, int]:
        """Deliver what waits, at most this long; batches and samples that are left."""
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
        """Drop the oldest batches beyond the limit, but for one being sent, and the newest, whatever its size."""
        oldest = int(self._in_flight)
        while len(self._waiting) > oldest + 1 and self._waiting_bytes > self._limit:
            batch = self._waiting[oldest]
            self._remove(batch)
            self._count_dropped("overflow", batch)
            if not self._overflowing:
                self._overflowing = True
                log.error(
                    "push to %s: more than %d MiB wait: the oldest samples are dropped",
                    self._transport.shown,
                    self._limit >> 20,
                )

    def _remove(self, batch: Batch) -> None:
        self._waiting.remove(batch)  # it is the first, or the second
        self._waiting_bytes -= len(batch.body)
        batch.waits = False

    def _count_dropped(self, reason: str, batch: Batch) -> None:
        batches, samples = self._figures.dropped[reason]
        dropped = {**self._figures.dropped, reason: (batches + 1, samples + batch.samples)}
        self._figures = replace(self._figures, dropped=dropped)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            begun = self._clock()
            outcome = self._send(batch)
            took = self._clock() - begun
            with self._changed:
                self._in_flight = False
                if not outcome.retry:
                    self._remove(batch)
            if outcome.delivered:
                self._delivered(batch, took)
            elif not outcome.retry:
                self._refused(batch, outcome.reason)
            else:
                self._failed(outcome)

    def _send(self, batch: Batch) -> Outcome:
        try:
            return self._transport.send(batch.body, self._encoding.headers)
        except Exception as error:  # noqa: BLE001 a thread that ends takes all samples with it
            # the error's own text could quote what is secret
            return Outcome(False, True, f"{type(error).__name__} in the HTTP client")

    def _next(self) -> Batch | None:
        """The oldest batch, packed, once there is one; None at the end."""
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
        """Compress what came since, without keeping the main thread from adding to it."""
        while True:
            with self._changed:
                if not self._raw:
                    return
                batch = self._raw.popleft()
            packed = self._encoding.compress(batch.body) if batch.waits else b""
            with self._changed:
                if batch.waits:  # not dropped meanwhile
                    self._waiting_bytes += len(packed) - len(batch.body)
                    batch.body, batch.is_packed = packed, True

    def _delivered(self, batch: Batch, took: float) -> None:
        now = self._clock()
        with self._changed:
            left = len(self._waiting)
            figures = self._figures
            self._figures = replace(
                figures, requests=figures.requests + 1, samples=figures.samples + batch.samples, request_s=took
            )
            self._overflowing = self._overflowing and left > 0
        if self._troubled_since is not None:
            log.info(
                "push to %s: delivering again after %.0f s; intervals that wait: %d",
                self._transport.shown,
                now - self._troubled_since,
                left,
            )
        self._attempts, self._troubled_since, self._said_refused = 0, None, None
        if batch.probe is not None:
            self._check.delivered(batch.probe, now)

    def _refused(self, batch: Batch, reason: str) -> None:
        """The server will not take this batch, whenever it is sent."""
        with self._changed:
            self._count_dropped("refused", batch)
        if reason != self._said_refused:
            log.error("push to %s: refused, and dropped: %s", self._transport.shown, reason)
        self._attempts, self._troubled_since, self._said_refused = 0, None, reason

    def _failed(self, outcome: Outcome) -> None:
        with self._changed:
            self._figures = replace(self._figures, failures=self._figures.failures + 1)
        if self._troubled_since is None:
            self._troubled_since = self._clock()
            log.error("push to %s: %s: keeping what is counted, trying again", self._transport.shown, outcome.reason)
        self._wait(self._pause(outcome.retry_after_s))
        self._attempts += 1

    def _pause(self, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(retry_after_s, LONGEST_RETRY_AFTER_S)
        longest = min(FIRST_PAUSE_S * 2 ** min(self._attempts, 16), LONGEST_PAUSE_S)
        return random.uniform(longest / 2, longest)  # noqa: S311 spreads senders, keeps no secret

    def _wait(self, pause_s: float) -> None:
        """Let time pass, and compress what comes; near the end of the process not for long."""
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
