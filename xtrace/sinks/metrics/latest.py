"""The registry of all series that exist, with their last values: what a scrape sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xtrace.sinks.metrics.sample import Interval, Labels, Life, Metric, Sample, Values

Created = Mapping[str, int]
"""When a counter was 0, ms since the epoch, by metric; unknown for one that is absent."""


class Held(NamedTuple):
    """One set of labels: the last values of all its metrics, and when the counters among them began."""

    values: Values
    created: Created


class View(NamedTuple):
    """All series as they were when an interval ended. Never changed, so any thread may read it."""

    series: Mapping[Labels, Held]
    described: Mapping[str, Metric]


NOTHING = View({}, {})
_NEW = Held({}, {})


class Latest:
    """Takes the samples of each tick, and publishes a View at its end."""

    def __init__(self) -> None:
        self._described: dict[str, Metric] = {}
        self._staying: dict[Labels, Held] = {}
        """series that stay while they are idle"""
        self._each: dict[Labels, Held] = {}
        """series with a sample in this tick that need one in each"""
        self._before: dict[Labels, Held] = {}
        """the same in the tick before"""
        self.view = NOTHING

    def add(self, samples: Sequence[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Take samples of one interval."""
        self._described.update(described)
        staying, each = self._staying, self._each
        for sample in samples:
            labels = sample.labels
            if sample.life is Life.ENDS:
                staying.pop(labels, None)
            elif sample.life is Life.STAYS:
                staying[labels] = _with(sample, staying.get(labels, _NEW), interval)
            else:
                known = each.get(labels) or Held({}, self._before.get(labels, _NEW).created)
                each[labels] = _with(sample, known, interval)

    def publish(self) -> None:
        """Finish a tick: publish what exists."""
        self.view = View({**self._staying, **self._each}, dict(self._described))
        self._before, self._each = self._each, {}


def _with(sample: Sample, known: Held, interval: Interval) -> Held:
    """Return what is held of a series once a sample is added."""
    created = known.created
    began = [name for name, value in (sample.before or {}).items() if value == 0 and name not in created]
    if began:
        created = {**created, **dict.fromkeys(began, interval.start_ms)}
    return Held({**known.values, **sample.values}, created)
