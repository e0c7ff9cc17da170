"""Samples as tests look at them: each value by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from xtrace.sinks.metrics.sample import Labels, Sample


class Value(NamedTuple):
    """One value of one series, at the end of the interval."""

    name: str
    labels: Labels
    value: int | float


def flat(samples: Iterable[Sample]) -> list[Value]:
    """All values of all samples."""
    return [Value(name, sample.labels, value) for sample in samples for name, value in sample.values.items()]
