"""The push: one request per tick to a server."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.own import push_samples
from xtrace.sinks.metrics.sample import Interval, Metric, Sample
from xtrace.sinks.push.batch import Batch, Transport
from xtrace.sinks.push.delivery import Delivery
from xtrace.sinks.push.selfcheck import Probe
from xtrace.sinks.push.spool import Spool

log = logging.getLogger(__name__)

LOST = {"overflow": "queue full", "refused": "rejected by the server", "damaged": "files in the spool damaged or gone"}
"""Texts for the reasons of Figures.dropped."""

PROBE = "xtrace_catch_build_info"


class Push:
    """An Outlet that encodes in the main thread between ticks; Delivery does everything that may block."""

    def __init__(self, transport: Transport, encoding: Encoding, spool: Spool | None = None) -> None:
        self._shown = transport.shown
        self._encoding = encoding
        self._spool = spool
        self._delivery = Delivery(transport, self._encoding, spool=spool)
        self.undelivered = False
        """after close(): whether samples were lost"""

    def add(self, samples: Sequence[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Encode samples of one interval."""
        self._encoding.add(samples, described, interval)

    def own(self) -> Iterable[Sample]:
        """Return the state of the delivery."""
        return push_samples(self._delivery.figures)

    def flush(self, interval: Interval) -> None:
        """Queue the tick's samples."""
        samples = len(self._encoding)
        if samples:
            probe = Probe(self._encoding.selector(PROBE), interval.end_ms)
            self._delivery.submit(Batch(self._encoding.body(), samples, probe))

    def close(self, limit_s: float) -> None:
        """Deliver queued samples for at most `limit_s`; log what was lost."""
        last = self._encoding.last_body()
        if last:
            self._delivery.submit(Batch(last, 0))
        batches, samples, kept = self._delivery.close(limit_s)
        if kept and self._spool is not None:
            where = self._spool.directory
            log.warning("push to %s: ended; not delivered yet: %d samples, kept in %s", self._shown, kept, where)
        if batches:
            self.undelivered = True
            log.error("push to %s: ended; not delivered within %.1f s: %d samples", self._shown, limit_s, samples)
        figures = self._delivery.figures
        if figures.stored is False or (figures.doubt and not figures.stored):
            self.undelivered = True
            log.error("push to %s: ended; the server accepted samples but seems not to store them", self._shown)
        for reason, (ticks, lost) in figures.dropped.items():
            if ticks:
                self.undelivered = True
                log.error(
                    "push to %s: ended; lost: %d samples of %d intervals: %s", self._shown, lost, ticks, LOST[reason]
                )
