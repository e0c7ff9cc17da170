"""Which function turns which kind of snapshot into samples. A mode's metrics are registered here, flows apart.

Flows have too many series to be written one for one: sinks/flow_metrics.py chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xtrace.model.nccl import NcclSnapshot
from xtrace.model.rdma import RdmaSnapshot
from xtrace.model.snapshot import Snapshot
from xtrace.sinks.metrics.nccl import DESCRIBED as NCCL_DESCRIBED
from xtrace.sinks.metrics.nccl import nccl_samples
from xtrace.sinks.metrics.rdma import DESCRIBED as RDMA_DESCRIBED
from xtrace.sinks.metrics.rdma import rdma_samples
from xtrace.sinks.metrics.sample import Sample


@dataclass(frozen=True)
class Source:
    """How snapshots of one kind become metrics."""

    samples: Callable[[Any], Iterator[Sample]]
    """given a snapshot; every series at most once"""
    described: Mapping[str, str] = field(default_factory=dict)
    """per metric one line of what it is, with its unit; docs/metrics.md says the same"""


SOURCES: dict[type[Snapshot], Source] = {
    RdmaSnapshot: Source(rdma_samples, RDMA_DESCRIBED),
    NcclSnapshot: Source(nccl_samples, NCCL_DESCRIBED),
}
"""By kind of snapshot."""
