"""Sends intervals to a collector: a thread that encodes, paces, waits and retries. The main thread only appends."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xtrace.model.flow import ENTRY, FlowSnapshot, InterfaceCounts
from xtrace.sinks.ipfix.link import Link, Tcp, Udp
from xtrace.sinks.ipfix.message import Message, Record, messages, templates
from xtrace.sinks.ipfix.records import Unsent, counted, flow_records, interface_records, reliability_records

log = logging.getLogger(__name__)

QUEUE_BYTES = 64 << 20
"""Of intervals that wait; beyond it the oldest is dropped."""
KEPT_BYTES = 8 << 20
"""Of messages sent last, which may have been lost with the collector: more than a socket's buffer."""
SPREAD, MOST_SPREAD_S = 0.5, 5.0
"""Datagrams are spread over this part of an interval: a collector that gets them all at once drops some."""
SPREAD_AT_END_S = 0.7
LEAST_WAIT_S = 0.002
PAUSE_S, PAUSE_AT_END_S = 1.0, 0.2
JOINED_WITHIN_S = 0.5
REFUSED_WITHIN_S = 0.3
"""By a host without a collector."""


@dataclass(frozen=True)
class Interval:
    """What is exported of an interval."""

    snapshot: FlowSnapshot
    """with flows of its own"""
    names: Mapping[int, str]
    """of interfaces, by index in the kernel"""
    indexes: Mapping[int, int]
    """of interfaces, by slot"""
    counts: InterfaceCounts
    """of the whole run"""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.snapshot.flows) * ENTRY.size


class Exporter:
    """Owns the queue, the connection and the thread. Only the thread connects and sends."""

    def __init__(
        self, kind: type[Udp] | type[Tcp], where: tuple[str, int], biflow: bool = False, limit: int = QUEUE_BYTES
    ) -> None:
        """`biflow`: whether the directions of a connection share a record."""
        self._kind, self._where = kind, where
        self._shown = "ipfix to {}:{}".format(*where)
        self._biflow = biflow
        self._limit = limit
        self._spread_s = MOST_SPREAD_S
        self._changed = threading.Condition()
        self._waiting: deque[Interval] = deque()
        self._closes_at: float | None = None
        self._is_full = False
        self._unsent = Unsent()
        """for good"""
        self._left = Unsent()
        """of the interval that is being sent: what is in no message yet"""
        self._exported = 0
        self._link: Link | None = None
        self._sequence = 0
        self._sending: deque[Message] = deque()
        self._sent: deque[Message] = deque()
        """over this connection, the last ones"""
        self._sent_bytes = 0
        self._troubled_since: float | None = None
        self._next_at = 0.0
        self._thread = threading.Thread(target=self._run, name="ipfix", daemon=True)

    def start(self, interval_s: float) -> None:
        """Start the thread."""
        self._spread_s = min(interval_s * SPREAD, MOST_SPREAD_S)
        self._thread.start()

    def submit(self, interval: Interval) -> None:
        """Queue an interval; never waits."""
        with self._changed:
            self._waiting.append(interval)
            while len(self._waiting) > 1 and sum(each.size for each in self._waiting) > self._limit:
                self._unsent += counted(self._waiting.popleft().snapshot)
                if not self._is_full:
                    log.error("%s: more than %d MiB queued; dropping the oldest flows", self._shown, self._limit >> 20)
                self._is_full = True
            self._changed.notify_all()

    def close(self, limit_s: float) -> Unsent:
        """Send what is queued for at most `limit_s`; return what was not sent in the whole run."""
        if not self._thread.is_alive():
            return Unsent()
        with self._changed:
            self._closes_at = time.monotonic() + limit_s
            self._changed.notify_all()
        self._thread.join(limit_s + JOINED_WITHIN_S)
        with self._changed:
            waiting = (counted(each.snapshot) for each in self._waiting)
            sending = (Unsent(each.flows, each.packets, each.octets) for each in list(self._sending))
            return sum((*waiting, *sending), self._unsent + self._left)

    def _run(self) -> None:
        while (interval := self._next()) is not None:
            self._export(interval)
        self._verify(REFUSED_WITHIN_S)
        self._flush()
        if self._link is not None:
            self._link.close()

    def _next(self) -> Interval | None:
        """Wait for an interval; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closes_at is not None)
            self._is_full = self._is_full and len(self._waiting) > 1
            return self._waiting.popleft() if self._waiting else None

    def _export(self, interval: Interval) -> None:
        """Send an interval, or count what was not sent when the time was over."""
        self._verify(0)
        if self._kind.has_datagrams:
            self._sending.append(templates())
        flows = len(interval.snapshot.flows)
        self._left = counted(interval.snapshot)
        records = flow_records(interval.snapshot, interval.indexes, self._biflow)
        for message in messages(records, self._kind.most):
            self._pace(message.flows / flows)
            self._left += Unsent(-message.flows, -message.packets, -message.octets)
            self._sending.append(message)
            if not self._flush():
                with self._changed:
                    self._unsent, self._left = self._unsent + self._left, Unsent()
                return
        self._sending.extend(messages(self._options(interval), self._kind.most))
        self._flush()

    def _options(self, interval: Interval) -> Iterator[Record]:
        yield from interface_records(interval.names)
        yield from reliability_records(interval.counts, os.getpid(), self._exported, self._unsent)

    def _pace(self, share: float) -> None:
        """Wait before a part of an interval's datagrams is sent."""
        if not self._kind.has_datagrams:
            return
        now = time.monotonic()
        spread_s = self._spread_s if self._closes_at is None else min(self._spread_s, SPREAD_AT_END_S)
        self._next_at = max(self._next_at, now) + share * spread_s
        if self._next_at - now > LEAST_WAIT_S:
            self._wait(self._next_at - now)

    def _flush(self) -> bool:
        """Send the messages in order, again and again if need be; return whether all were before the time was over."""
        while self._sending:
            if self._closes_at is not None and time.monotonic() >= self._closes_at:
                return False
            try:
                self._send(self._sending[0], self._link or self._connect())
            except OSError as error:
                self._failed(error)
            else:
                self._sending.popleft()
        return True

    def _connect(self) -> Link:
        """Return a new connection, over which the templates were sent. Raises OSError."""
        self._link, self._sequence = self._kind(self._where), 0
        self._sent.clear()
        self._sent_bytes = 0
        self._send(templates(), self._link)
        self._link.check(REFUSED_WITHIN_S if self._kind.has_datagrams else 0)
        if self._troubled_since is not None:
            log.info("%s: sending again after %.0f s", self._shown, time.monotonic() - self._troubled_since)
        self._troubled_since = None
        return self._link

    def _send(self, message: Message, link: Link) -> None:
        """Send a message, which may still be lost. Raises OSError."""
        link.send(message.whole(int(time.time()), self._sequence))
        self._sequence = (self._sequence + message.records) % (1 << 32)
        self._exported += message.flows
        self._sent.append(message)
        self._sent_bytes += message.size
        while self._sent_bytes > KEPT_BYTES:
            self._sent_bytes -= self._sent.popleft().size

    def _verify(self, wait_s: float) -> None:
        """See whether the collector is still there."""
        if self._link is not None:
            try:
                self._link.check(wait_s)
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        """End the connection; what was lost with it is sent again."""
        if self._link is not None:
            for _ in range(min(self._link.lost(), len(self._sent))):
                message = self._sent.pop()
                self._exported -= message.flows
                if message.records:  # templates are sent anyway
                    self._sending.appendleft(message)
            self._link.close()
            self._link = None
        if self._troubled_since is None:
            self._troubled_since = time.monotonic()
            log.error("%s: %s; flows are queued, retrying", self._shown, error.strerror or error)
        self._wait(PAUSE_S)

    def _wait(self, pause_s: float) -> None:
        """Wait; only briefly once the process ends."""
        with self._changed:
            if self._closes_at is None:
                self._changed.wait_for(lambda: self._closes_at is not None, pause_s)
            else:
                left = max(0.0, self._closes_at - time.monotonic())
                self._changed.wait(min(pause_s, PAUSE_AT_END_S, left))
