"""The sink that makes samples from the snapshots of all modes, once for every outlet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from xtrace.model.snapshot import Setup, Snapshot
from xtrace.sinks import Run
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics import own
from xtrace.sinks.metrics.own import SelfMetrics
from xtrace.sinks.metrics.sample import Interval, Metric, Sample
from xtrace.sinks.registry import ByMode, Totals
from xtrace.sinks.renewed import Renewed


class Outlet(Protocol):
    """Where samples go: pushed, or kept until they are scraped."""

    def add(self, samples: Sequence[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Take samples of one interval; `described` contains all their metrics."""

    def flush(self, interval: Interval) -> None:
        """Finish a tick: all its samples have been added."""

    def own(self) -> Iterable[Sample]:
        """Return the outlet's own figures; their metrics are in metrics/own.py."""


class Feed:
    """State of all modes' series between ticks."""

    def __init__(
        self, options: MetricsOptions, outlets: Sequence[Outlet], renewed: Sequence[Renewed[Any]] = ()
    ) -> None:
        """`renewed`: what outlets make of files that may be replaced."""
        self._outlets = outlets
        self._kinds = ByMode(lambda kind: kind.metrics(options) if kind.metrics else None)
        self._setups: Mapping[str, Setup] = {}
        self._self = SelfMetrics(renewed)
        self._interval: Interval | None = None
        """the last one written"""
        self._unfinished: Interval | None = None
        """of samples that have not been flushed"""
        self._spent_ns = 0
        """in this tick so far"""

    def start(self, run: Run) -> None:
        """Note the run's setup."""
        self._self.start(run)
        self._setups = run.setups

    def write(self, snapshot: Snapshot) -> None:
        """Make the samples of one interval of one monitor, if its mode has metrics."""
        begun = time.monotonic_ns()
        self._interval = Interval.of(snapshot)
        kind = self._kinds[snapshot.mode]
        if kind is not None:
            samples = list(kind.samples(snapshot))
            self._unfinished = self._interval
            for outlet in self._outlets:
                outlet.add(samples, kind.described, self._interval)
        self._spent_ns += time.monotonic_ns() - begun

    def flush(self) -> None:
        """Add the tool's own metrics and finish the tick."""
        if self._interval is None:
            return
        begun = time.monotonic_ns()
        modes = [kind.own(self._setups.get(mode)) for mode, kind in self._kinds.items() if kind is not None]
        samples = [*self._self.samples(self._interval, modes)]
        for outlet in self._outlets:
            samples += outlet.own()
        for outlet in self._outlets:
            outlet.add(samples, own.DESCRIBED, self._interval)
        self._finish(self._interval)
        self._self.note_render(self._spent_ns + time.monotonic_ns() - begun)
        self._spent_ns = 0

    def _finish(self, interval: Interval) -> None:
        for outlet in self._outlets:
            outlet.flush(interval)
        self._unfinished = None

    def end(self, totals: Totals) -> None:
        """Do nothing: the last tick's samples are the last."""

    def close(self) -> None:
        """Flush what was added if another sink failed before flush()."""
        if self._unfinished is not None:
            self._finish(self._unfinished)
