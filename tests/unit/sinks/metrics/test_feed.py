"""Samples of a tick: none is lost where another sink fails, and none is made of nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.unit.make import flow, snapshot
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.feed import Feed
from xtrace.sinks.metrics.sample import Interval, Metric, Sample


class Outlet:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def add(self, samples: Sequence[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        self.given.append("own" if "xtrace_catch_build_info" in described else "samples")

    def flush(self, interval: Interval) -> None:
        self.given.append("flush")

    def own(self) -> Iterable[Sample]:
        return ()


def test_tick_without_a_snapshot_has_no_samples() -> None:
    outlet = Outlet()
    feed = Feed(MetricsOptions(10), [outlet])
    feed.flush()
    feed.close()
    assert outlet.given == []


def test_samples_are_flushed_once_by_the_tick_or_else_at_the_end() -> None:
    outlet = Outlet()
    feed = Feed(MetricsOptions(10), [outlet])
    feed.write(snapshot([flow()]))
    feed.flush()
    feed.close()
    assert outlet.given == ["samples", "own", "flush"]
    feed.write(snapshot([flow()]))
    feed.close()
    feed.close()
    assert outlet.given[3:] == ["samples", "flush"]
