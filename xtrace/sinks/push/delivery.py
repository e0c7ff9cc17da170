"""Deliver batches to a server: a thread that sends, waits and retries.

The main thread only appends to the queue and never waits. Counters are cumulative and every sample has a timestamp, so
a batch that arrives late or twice changes no sum.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.own import Figures
from xtrace.sinks.push.acknowledged import KEPT_BYTES, KEPT_S, Acknowledged
from xtrace.sinks.push.batch import Batch, Outcome, Transport
from xtrace.sinks.push.queue import Queue
from xtrace.sinks.push.rest import rest
from xtrace.sinks.push.selfcheck import VISIBLE_AFTER_S, SelfCheck
from xtrace.sinks.push.spool import SENT, Spool

log = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20
"""Limit of the queue in memory; beyond it the oldest batch is dropped."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
"""Pause between attempts: doubles each time, randomly shortened by up to half to spread many senders."""

LONGEST_RETRY_AFTER_S = 300.0
SPOOLED_BYTES, SPOOLED_S = 64 << 20, 300.0
"""How much that was acknowledged is kept with a spool, and how long: a busy server writes late."""
FOUND = Outcome(True)
"""Of a batch that the server has: nothing was sent."""
PAUSE_AT_END_S = 0.25
PACKED_WITHIN_S = 0.5
"""At the end: for what is still being compressed, or written to the spool."""


class Delivery:
    """Owns the queue and the thread that sends. `spool` keeps the batches beyond the end of the process."""

    def __init__(
        self,
        transport: Transport,
        encoding: Encoding,
        limit: int = QUEUE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        spool: Spool | None = None,
    ) -> None:
        self._transport = transport
        self._encoding = encoding
        self._clock = clock
        self._limit = limit if spool is None else spool.limit
        self._queue = Queue(encoding.compress, limit, spool)
        self._changed = self._queue.changed
        self._has_spool = spool is not None
        self._figures = Figures()
        self._closes_at: float | None = None
        self._attempts = 0
        self._troubled_since: float | None = None
        self._last_rejection: str | None = None
        self._last_remark = ""
        self._overflowed = 0
        """batches that had no room"""
        self._overflowing = False
        self._has_ended = self._is_abrupt = False
        """whether a connection ended, or a request failed, since the last delivery; and unannounced"""
        self._is_unchecked_said = False
        self._check = SelfCheck(transport.times, transport.shown)
        kept = (SPOOLED_BYTES, SPOOLED_S) if spool else (KEPT_BYTES, KEPT_S)
        self._acknowledged: Acknowledged[Batch] = Acknowledged(transport.times, self._queue.forget, *kept)
        if spool is not None:
            self._resume(spool)
        # a request that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def _resume(self, spool: Spool) -> None:
        """Go on where an earlier run ended, or was killed: maybe between a request and its answer."""
        self._acknowledged.resume(spool.load(SENT), self._clock())
        oldest = self._queue.oldest()
        if oldest is not None:
            self._queue.doubt(oldest, self._clock() + VISIBLE_AFTER_S)
            log.info("push to %s: intervals in the spool: %d", self._transport.shown, len(self._queue))
        for _ in range(spool.damaged):
            self._queue.count_dropped("damaged", Batch(b"", 0))

    @property
    def figures(self) -> Figures:
        """Current figures."""
        with self._changed:
            return replace(
                self._figures,
                waiting_batches=len(self._queue),
                waiting_bytes=self._queue.memory_bytes,
                spooled_bytes=self._queue.disk_bytes if self._has_spool else None,
                dropped=dict(self._queue.dropped),
                stored=self._check.stored,
            )

    def submit(self, batch: Batch) -> None:
        """Queue a batch; never waits for the network or a disk."""
        before, self._overflowed = self._overflowed, self._queue.put(batch)
        if self._overflowed > before and not self._overflowing:
            self._overflowing = True
            log.error(
                "push to %s: more than %d MiB queued; dropping the oldest samples",
                self._transport.shown,
                self._limit >> 20,
            )

    def close(self, limit_s: float) -> tuple[int, int, int]:
        """Deliver for at most `limit_s`; return batches and samples lost, and samples left in the spool."""
        with self._changed:
            self._closes_at = self._clock() + limit_s
            self._changed.notify_all()
        self._thread.join(limit_s)
        left = self._queue.close(PACKED_WITHIN_S)
        if not self._thread.is_alive():
            self._transport.close()
        elif not self._transport.is_known and self._figures.requests and self._check.stored is None:
            self._warn_unchecked()  # the query hangs
        return left

    def _run(self) -> None:
        while (batch := self._next()) is not None or self._restore(ending=True):
            if batch is None:
                continue
            body = self._body(batch)
            if body is None:
                continue
            begun = self._clock()
            outcome = self._send_rest(batch, body) if batch.in_doubt else self._send(batch, body)
            if outcome.unanswered:
                self._queue.doubt(batch, self._clock() + VISIBLE_AFTER_S)
            took = self._clock() - begun
            self._has_ended = self._has_ended or outcome.reconnected or outcome.retry
            is_busy = outcome.status == HTTPStatus.TOO_MANY_REQUESTS
            self._is_abrupt = self._is_abrupt or outcome.abruptly or (outcome.retry and not is_busy)
            with self._changed:
                self._queue.finish(batch, is_done=not outcome.retry)
            if outcome.delivered:
                self._delivered(batch, outcome, took)
                self._restore(ending=False)
            elif not outcome.retry:
                self._refused(batch, outcome)
            else:
                self._failed(outcome)
        if not self._transport.is_known:
            self._check_last()

    def _check_last(self) -> None:
        """A run may end before its first sample is checked; other paths answer 204 as well, and store nothing."""
        while self._check.ends(self._clock()):
            if self._closes_at is None or self._clock() >= self._closes_at - PAUSE_AT_END_S:
                self._warn_unchecked()
                return
            self._wait(PAUSE_AT_END_S)

    def _warn_unchecked(self) -> None:
        """Say, once, that no sample was seen in the server, unless its answers have said so before."""
        with self._changed:
            is_said, self._is_unchecked_said = self._is_unchecked_said or bool(self._figures.doubt), True
        if not is_said:
            log.warning(
                "push to %s: ended before the server returned a sample: it may store nothing that comes by this"
                " path (check the path)",
                self._transport.shown,
            )

    def _restore(self, ending: bool) -> bool:
        """Queue batches that the server has lost since it acknowledged them; return whether there are any."""
        if self._closes_at is not None and self._clock() >= self._closes_at:
            return False
        lost = self._acknowledged.lost(self._clock(), ending)
        self._queue.restore(lost.batches)
        if lost.missing:
            log.warning(
                "push to %s: the server lost %d intervals; sending them again", self._transport.shown, lost.missing
            )
        return bool(lost.batches) or (ending and self._asks_on())

    def _asks_on(self) -> bool:
        """At the end: wait a little if the server does not show yet what it has; return whether to ask it again."""
        if not self._acknowledged.unknown or self._closes_at is None:
            return False
        if self._clock() < self._closes_at - PAUSE_AT_END_S:
            self._wait(PAUSE_AT_END_S)
            return True
        if not self._has_spool:
            log.warning(
                "push to %s: ended before the server showed whether it still has %d intervals that it had acknowledged",
                self._transport.shown,
                self._acknowledged.unknown,
            )
        return False

    def _body(self, batch: Batch) -> bytes | None:
        """Return what to send; None, and the batch is no longer in the queue, if its file does not give it."""
        try:
            body = self._queue.body(batch)
        except FileNotFoundError:
            self._lose(batch)
            log.error("push to %s: a file in the spool was removed by others: %s", self._transport.shown, batch.file)
            return None
        except OSError as failed:
            self._queue.leave(batch, failed)
            return None
        if body is None:
            self._lose(batch)
            log.error("push to %s: a damaged file in the spool is dropped: %s", self._transport.shown, batch.file)
        return body

    def _lose(self, batch: Batch) -> None:
        with self._changed:
            self._queue.finish(batch, is_done=True)
            self._queue.count_dropped("damaged", batch)
        self._queue.forget(batch)

    def _send_rest(self, batch: Batch, body: bytes) -> Outcome:
        """Send what the server has not stored of a batch that it may have."""
        try:
            left = rest(self._transport, self._encoding, body)
        except Exception:  # noqa: BLE001 - of a file that is none of ours; if the thread ends, all samples are lost
            left = None
        if left is None:
            left = b"" if self._has_stored(batch) else body
        return self._send(batch, left) if left else FOUND

    def _send(self, batch: Batch, body: bytes) -> Outcome:
        try:
            outcome = self._transport.send(body, self._encoding.headers(body))
            # marks of ends, which are no samples, may be among them; or the server errs
            return replace(outcome, rejected=min(outcome.rejected, batch.samples))
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
            while True:
                oldest = self._queue.oldest()
                now = self._clock()
                asks_at = self._asks_at(oldest) if oldest is not None else now
                if self._closes_at is not None and (oldest is None or max(now, asks_at) >= self._closes_at):
                    return None
                is_packed = oldest is not None and oldest.is_packed
                if is_packed and asks_at <= now:
                    self._queue.begin()
                    return oldest
                self._changed.wait(asks_at - now if is_packed else None)

    def _asks_at(self, batch: Batch) -> float:
        """Return when to go on with a batch. At the end, without a spool, at once: there is no later run."""
        return 0.0 if self._closes_at is not None and not self._has_spool else batch.ask_at

    def _delivered(self, batch: Batch, outcome: Outcome, took: float) -> None:
        now = self._clock()
        is_found = outcome is FOUND
        is_known = is_found and batch.acknowledged_at is not None
        with self._changed:
            left = len(self._queue)
            figures = self._figures
            self._figures = replace(
                figures,
                requests=figures.requests + (not is_known),
                samples=figures.samples + (0 if is_known else batch.samples - outcome.rejected),
                request_s=took,
                doubt=outcome.doubt,
            )
            self._overflowing = self._overflowing and left > 0
            if outcome.rejected:
                self._queue.count_dropped("refused", Batch(b"", outcome.rejected))
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
                "push to %s: answered %s: samples may not be stored (check the path)",
                self._transport.shown,
                outcome.doubt,
            )
        self._remarked(outcome)
        self._queue.keep(batch)
        is_fresh, batch.in_doubt = not batch.in_doubt, False
        self._acknowledged.add(
            batch,
            now,
            reconnected=self._has_ended,
            abruptly=self._is_abrupt,
            is_fresh=is_fresh,
            is_found=is_found,
        )
        if self._has_ended:
            self._check.forget()
        self._has_ended = self._is_abrupt = False
        if batch.probe is not None:
            self._check.delivered(batch.probe, now)

    def _remarked(self, outcome: Outcome) -> None:
        """The server took the batch, but has something to say."""
        said = outcome.remark or "no reason given"
        if outcome.rejected and said != self._last_remark:
            log.error("push to %s: accepted, but for %d samples: %s", self._transport.shown, outcome.rejected, said)
        elif outcome.remark and said != self._last_remark:
            log.warning("push to %s: accepted, with a remark: %s", self._transport.shown, said)
        self._last_remark = said if outcome.rejected or outcome.remark else ""

    def _refused(self, batch: Batch, outcome: Outcome) -> None:
        """The server permanently rejects this batch, or the part that it has not written."""
        lost = outcome.rejected if outcome.written else batch.samples
        reason = outcome.reason
        with self._changed:
            self._queue.count_dropped("refused", Batch(b"", lost))
            self._figures = replace(self._figures, samples=self._figures.samples + batch.samples - lost)
        self._queue.forget(batch)
        if reason != self._last_rejection:
            if outcome.written:
                log.error(
                    "push to %s: %d of %d samples written, the others rejected and dropped: %s",
                    self._transport.shown,
                    outcome.written,
                    outcome.written + lost,
                    reason,
                )
            else:
                log.error("push to %s: rejected and dropped: %s", self._transport.shown, reason)
        self._attempts, self._troubled_since, self._last_rejection = 0, None, reason

    def _failed(self, outcome: Outcome) -> None:
        with self._changed:
            self._figures = replace(self._figures, failures=self._figures.failures + 1)
        if self._troubled_since is None:
            self._troubled_since = self._clock()
            log.error("push to %s: %s; samples are queued, retrying", self._transport.shown, outcome.reason)
        self._wait(self._pause(outcome.retry_after_s))
        self._attempts += 1

    def _pause(self, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(retry_after_s, LONGEST_RETRY_AFTER_S)
        longest = min(FIRST_PAUSE_S * 2 ** min(self._attempts, 16), LONGEST_PAUSE_S)
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads senders, no secret

    def _wait(self, pause_s: float) -> None:
        """Wait; only briefly once the process ends."""
        until = self._clock() + pause_s
        with self._changed:
            while True:
                left = until - self._clock()
                if self._closes_at is not None:
                    left = min(left, PAUSE_AT_END_S, self._closes_at - self._clock())
                if left <= 0:
                    return
                self._changed.wait(left)
                if self._closes_at is not None:
                    return
