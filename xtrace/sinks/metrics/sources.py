"""Which function turns which kind of snapshot into samples. A mode's metrics are registered here, flows apart.

Flows are too many to have series each, and need state: flows.py chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xtrace.model.nccl import NcclSnapshot
from xtrace.model.rdma import RdmaSnapshot
from xtrace.model.snapshot import Snapshot
from xtrace.sinks.metrics.nccl import DESCRIBED as NCCL_DESCRIBED
from xtrace.sinks.metrics.nccl import nccl_samples
from xtrace.sinks.metrics.rdma import DESCRIBED as RDMA_DESCRIBED
from xtrace.sinks.metrics.rdma import rdma_samples
from xtrace.sinks.metrics.sample import Metric, Sample


@dataclass(frozen=True)
class Source:
    """How snapshots of one kind become metrics."""

    samples: Callable[[Any], Iterable[Sample]]
    """given a snapshot; every series at most once"""
    described: Mapping[str, Metric]
    """all metrics there may be, in the order of the output"""


SOURCES: dict[type[Snapshot], Source] = {
    RdmaSnapshot: Source(rdma_samples, RDMA_DESCRIBED),
    NcclSnapshot: Source(nccl_samples, NCCL_DESCRIBED),
}
"""By kind of snapshot."""
