"""The push sink: what every mode counts, as metrics to VictoriaMetrics, one request per tick."""

from __future__ import annotations

import logging
import time

from xtrace.model.flow import FlowSnapshot
from xtrace.model.snapshot import Snapshot
from xtrace.sinks import Run, Totals
from xtrace.sinks.identity import Identity
from xtrace.sinks.metrics import flows, own
from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.exposition import Exposition, label_text
from xtrace.sinks.metrics.flows import FlowMetrics
from xtrace.sinks.metrics.own import SelfMetrics
from xtrace.sinks.metrics.sample import Interval
from xtrace.sinks.metrics.sources import SOURCES
from xtrace.sinks.push.delivery import Batch, Delivery, Transport
from xtrace.sinks.push.selfcheck import Probe

log = logging.getLogger(__name__)

LOST = {"overflow": "for which there was no room", "refused": "which the server refused"}
"""What became of samples, by the reasons of Figures.dropped."""

PROBE = "xtrace_catch_build_info"


class Push:
    """Renders in the main thread, between ticks; everything that may take its time is the delivery's."""

    def __init__(self, transport: Transport, identity: Identity, max_series: int) -> None:
        self._shown = transport.shown
        self._identity = identity
        self._encoding: Encoding = Exposition(identity.series())
        self._flows = FlowMetrics(max_series)
        self._self = SelfMetrics()
        self._delivery = Delivery(transport, self._encoding)
        self._interval: Interval | None = None
        """the last"""
        self._spent_ns = 0
        """in this tick so far"""
        self.undelivered = False
        """after close(): whether something was left"""

    def start(self, run: Run) -> None:
        """Take note of what runs."""
        self._self.start(run)

    def write(self, snapshot: Snapshot) -> None:
        """Render one interval of one monitor. Kinds without metrics are passed over."""
        begun = time.monotonic_ns()
        self._interval = Interval.of(snapshot)
        if isinstance(snapshot, FlowSnapshot):
            self._encoding.add(self._flows.samples(snapshot), flows.DESCRIBED, self._interval)
            self._self.note(snapshot)
        elif type(snapshot) in SOURCES:
            source = SOURCES[type(snapshot)]
            self._encoding.add(source.samples(snapshot), source.described, self._interval)
        self._spent_ns += time.monotonic_ns() - begun

    def flush(self) -> None:
        """Hand the tick's samples over, and what the tool says of itself."""
        if self._interval is None:
            return
        begun = time.monotonic_ns()
        samples = self._self.samples(self._delivery.figures, self._flows.state())
        self._encoding.add(samples, own.DESCRIBED, self._interval)
        self._submit()
        self._self.note_render(self._spent_ns + time.monotonic_ns() - begun)
        self._spent_ns = 0

    def _submit(self) -> None:
        samples = len(self._encoding)
        if samples and self._interval is not None:
            selector = f"{PROBE}{{{label_text(self._identity.series())}}}"
            probe = Probe(selector, self._interval.end_ms)
            self._delivery.submit(Batch(self._encoding.body(), samples, probe))

    def end(self, totals: Totals) -> None:
        """Nothing: the last tick's samples are the last."""

    def close(self, limit_s: float) -> None:
        """Deliver what waits, at most for this long, and say what was left."""
        self._submit()  # where another sink's failure came before flush()
        batches, samples = self._delivery.close(limit_s)
        if batches:
            self.undelivered = True
            log.error("push to %s: ended; not delivered within %.1f s: %d samples", self._shown, limit_s, samples)
        for reason, (ticks, lost) in self._delivery.figures.dropped.items():
            if ticks:
                self.undelivered = True
                log.error("push to %s: ended; lost: %d samples of %d ticks, %s", self._shown, lost, ticks, LOST[reason])
