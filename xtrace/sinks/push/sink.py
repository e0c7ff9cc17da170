"""The push sink: metrics of all modes to VictoriaMetrics, one request per tick."""

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
from xtrace.sinks.push.batch import Batch, Transport
from xtrace.sinks.push.delivery import Delivery
from xtrace.sinks.push.selfcheck import Probe
from xtrace.sinks.registry import ByMode, Totals

log = logging.getLogger(__name__)

LOST = {"overflow": "queue full", "refused": "rejected by the server"}
"""Texts for the reasons of Figures.dropped."""

PROBE = "xtrace_catch_build_info"


class Push:
    """Renders in the main thread between ticks; Delivery does everything that may block."""

    def __init__(self, transport: Transport, identity: Identity, max_series: int, series_by: str = "flow") -> None:
        self._shown = transport.shown
        self._identity = identity
        self._encoding: Encoding = Exposition(identity.series())
        options = MetricsOptions(max_series, series_by)
        self._kinds = ByMode(lambda kind: kind.metrics(options) if kind.metrics else None)
        self._setups: Mapping[str, Setup] = {}
        self._self = SelfMetrics()
        self._delivery = Delivery(transport, self._encoding)
        self._interval: Interval | None = None
        """the last one written"""
        self._spent_ns = 0
        """in this tick so far"""
        self.undelivered = False
        """after close(): whether samples were lost"""

    def start(self, run: Run) -> None:
        """Note the run's setup."""
        self._self.start(run)
        self._setups = run.setups

    def write(self, snapshot: Snapshot) -> None:
        """Add one interval of one monitor, if its mode has metrics."""
        begun = time.monotonic_ns()
        self._interval = Interval.of(snapshot)
        kind = self._kinds[snapshot.mode]
        if kind is not None:
            self._encoding.add(kind.samples(snapshot), kind.described, self._interval)
        self._spent_ns += time.monotonic_ns() - begun

    def flush(self) -> None:
        """Queue the tick's samples and the tool's own metrics."""
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
        """Do nothing: the last tick's samples are the last."""

    def close(self, limit_s: float) -> None:
        """Deliver queued samples for at most `limit_s`; log what was lost."""
        self._submit()  # in case another sink failed before flush()
        batches, samples = self._delivery.close(limit_s)
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
