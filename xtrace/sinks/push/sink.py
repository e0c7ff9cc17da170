"""The push sink: what every mode counts, as metrics to VictoriaMetrics, one request per tick."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from xtrace.model.snapshot import Setup, Snapshot
from xtrace.sinks import Run
from xtrace.sinks.identity import Identity
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics import own
from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.exposition import Exposition, label_text
from xtrace.sinks.metrics.own import SelfMetrics
from xtrace.sinks.metrics.sample import Interval
from xtrace.sinks.push.delivery import Batch, Delivery, Transport
from xtrace.sinks.push.selfcheck import Probe
from xtrace.sinks.registry import ByMode, Totals

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
        self._kinds = ByMode(lambda kind: kind.metrics(MetricsOptions(max_series)) if kind.metrics else None)
        self._setups: Mapping[str, Setup] = {}
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
        self._setups = run.setups

    def write(self, snapshot: Snapshot) -> None:
        """Take the samples of one interval of one monitor, if its mode has metrics."""
        begun = time.monotonic_ns()
        self._interval = Interval.of(snapshot)
        kind = self._kinds[snapshot.mode]
        if kind is not None:
            self._encoding.add(kind.samples(snapshot), kind.described, self._interval)
        self._spent_ns += time.monotonic_ns() - begun

    def flush(self) -> None:
        """Hand the tick's samples over, and what the tool says of itself."""
        if self._interval is None:
            return
        begun = time.monotonic_ns()
        modes = [kind.own(self._setups.get(mode)) for mode, kind in self._kinds.items() if kind is not None]
        samples = self._self.samples(self._delivery.figures, modes)
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
