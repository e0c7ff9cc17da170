"""What a metrics back end receives: one value of one series."""

from __future__ import annotations

from typing import Literal, NamedTuple

Labels = tuple[tuple[str, str], ...]
"""Names and values, without the constant ones (host, --label), which the sink adds."""


class Sample(NamedTuple):
    """A value at the end of the snapshot's interval. Counters are cumulative since the start of this run or before."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: Labels
    value: int | float
