"""The queue of batches: bounded, compressed and, with a spool, written to files by a thread of its own.

That thread never waits for the network, so that with a spool a batch is safe shortly after its interval, even while a
request hangs.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from xtrace.sinks.push.batch import Batch
from xtrace.sinks.push.spool import SENT, UNSURE, WAITING, Spool

log = logging.getLogger(__name__)

Dropped = dict[str, tuple[int, int]]
"""Batches and samples that were lost, by reason."""


class Queue:
    """Batches in order. `changed` guards everything; whoever waits for something waits for it."""

    def __init__(self, compress: Callable[[bytes], bytes], limit: int, spool: Spool | None = None) -> None:
        self.changed = threading.Condition()
        self.dropped: Dropped = {"overflow": (0, 0), "refused": (0, 0), **({"damaged": (0, 0)} if spool else {})}
        self.memory_bytes = self.disk_bytes = 0
        self._compress = compress
        self._limit = limit
        self._spool = spool
        self._waiting: deque[Batch] = deque(spool.load(WAITING, UNSURE) if spool else ())
        self.disk_bytes = sum(batch.size for batch in self._waiting)
        self._raw: deque[Batch] = deque()
        """queued batches that are not compressed yet"""
        self._unneeded: list[str] = []
        """files to remove"""
        self._left = 0
        """samples in files that cannot be read"""
        self._in_flight = False
        """whether the oldest batch is being sent"""
        self._is_closed = False
        self._has_failed = False
        """whether the last file could not be written"""
        self._thread = threading.Thread(target=self._pack, name="push-pack", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest(self) -> Batch | None:
        """Return the batch to send next; None if there is none."""
        return self._waiting[0] if self._waiting else None

    def put(self, batch: Batch) -> int:
        """Add a batch that is not compressed; return how many had no room so far. Never waits for a disk."""
        with self.changed:
            batch.size = len(batch.body)
            self._waiting.append(batch)
            self._raw.append(batch)
            self.memory_bytes += batch.size
            self._make_room()
            self.changed.notify_all()
            return self.dropped["overflow"][0]

    def restore(self, batches: Iterable[Batch]) -> None:
        """Put batches that were acknowledged back, as the oldest: the server may have lost them, in part."""
        restored = list(batches)
        for batch in restored:
            self.doubt(batch)
        with self.changed:
            for batch in reversed(restored):
                batch.waits = True
                self._waiting.appendleft(batch)
                self._count(batch, 1)

    def doubt(self, batch: Batch, ask_at: float = 0.0) -> None:
        """Note that the server may have stored a batch, in part, and when it shows that: seconds, monotonic."""
        batch.in_doubt, batch.ask_at = True, ask_at
        self._mark(batch, UNSURE)

    def begin(self) -> None:
        """Note that the oldest batch is being sent: it is not dropped meanwhile. Hold `changed`."""
        self._in_flight = True

    def finish(self, batch: Batch, is_done: bool) -> None:
        """Note that an attempt is over, and remove the batch if it need not be sent again. Hold `changed`."""
        self._in_flight = False
        if is_done:
            self._remove(batch)

    def body(self, batch: Batch) -> bytes | None:
        """Return a batch's compressed body; None if its file is damaged. Raises OSError if it cannot be read."""
        return batch.body if batch.file is None or self._spool is None else self._spool.read(batch.file)

    def leave(self, batch: Batch, failed: OSError) -> None:
        """Leave a batch whose file cannot be read to a later run. It counts towards the limit no more."""
        assert self._spool is not None and batch.file is not None
        self._spool.tell_unreadable(batch.file, failed)
        with self.changed:
            self.finish(batch, is_done=True)
            self._left += batch.samples

    def keep(self, batch: Batch) -> None:
        """Note that a batch was acknowledged, and may still be lost by the server."""
        self._mark(batch, SENT)

    def forget(self, batch: Batch) -> None:
        """Remove the file of a batch that is not needed any more."""
        with self.changed:
            self._forget(batch)

    def count_dropped(self, reason: str, batch: Batch) -> None:
        """Note that a batch is lost. Hold `changed`."""
        batches, samples = self.dropped[reason]
        self.dropped[reason] = batches + 1, samples + batch.samples

    def close(self, limit_s: float) -> tuple[int, int, int]:
        """End the thread once everything is compressed; return batches and samples in memory, and samples in files."""
        with self.changed:
            self._is_closed = True
            self.changed.notify_all()
        self._thread.join(limit_s)
        with self.changed:
            lost = [batch.samples for batch in self._waiting if batch.file is None]
            in_files = sum(batch.samples for batch in self._waiting if batch.file is not None)
            return len(lost), sum(lost), in_files + self._left

    def _mark(self, batch: Batch, end: str) -> None:
        if batch.file is not None and self._spool is not None:
            batch.file = self._spool.mark(batch.file, end)

    def _count(self, batch: Batch, sign: int) -> None:
        if batch.file is None:
            self.memory_bytes += sign * batch.size
        else:
            self.disk_bytes += sign * batch.size

    def _remove(self, batch: Batch) -> None:
        self._waiting.remove(batch)  # usually the first or the second
        self._count(batch, -1)
        batch.waits = False

    def _forget(self, batch: Batch) -> None:
        if batch.file is not None:
            self._unneeded.append(batch.file)
            self.changed.notify_all()

    def _make_room(self) -> None:
        """Drop the oldest batches beyond a limit, but not one in flight or the newest."""
        while (batch := self._excess()) is not None:
            self._remove(batch)
            self._forget(batch)
            self.count_dropped("overflow", batch)

    def _excess(self) -> Batch | None:
        in_files = self._spool is not None and self.disk_bytes > self._spool.limit
        if not in_files and self.memory_bytes <= self._limit:
            return None
        candidates = islice(self._waiting, int(self._in_flight), len(self._waiting) - 1)
        return next((batch for batch in candidates if (batch.file is not None) == in_files), None)

    def _pack(self) -> None:
        """Compress new batches, write them to the spool, remove its files."""
        while True:
            with self.changed:
                while not (self._raw or self._unneeded or self._is_closed):
                    self.changed.wait()
                batch = self._raw.popleft() if self._raw else None
                unneeded, self._unneeded = self._unneeded, []
            for name in unneeded:
                assert self._spool is not None
                self._spool.remove(name)
            if batch is not None:
                self._pack_one(batch)
            elif self._is_closed and not unneeded:
                return

    def _pack_one(self, batch: Batch) -> None:
        packed = self._compress(batch.body) if batch.waits else b""
        file = self._write(batch, packed) if batch.waits else None
        with self.changed:
            if not batch.waits:  # dropped in the meantime
                batch.file = file
                self._forget(batch)
                return
            self._count(batch, -1)
            batch.file, batch.body, batch.size = file, packed if file is None else b"", len(packed)
            batch.is_packed = True
            self._count(batch, 1)
            self._make_room()
            self.changed.notify_all()

    def _write(self, batch: Batch, packed: bytes) -> str | None:
        """Write a batch to the spool; return the file's name, None without a spool or if it could not be written."""
        if self._spool is None:
            return None
        try:
            name = self._spool.put(batch, packed)
        except OSError as error:
            if not self._has_failed:
                log.error("--spool %s: %s; samples are kept in memory only", self._spool.directory, error.strerror)
            self._has_failed = True
            return None
        if self._has_failed:
            log.info("--spool %s: writing again", self._spool.directory)
        self._has_failed = False
        return name
