"""All thresholds that --threshold sets."""

from __future__ import annotations

from xtrace.model import nccl_limits, rdma_limits, tcp_limits
from xtrace.model.limits import Limits

THRESHOLDS: Limits = {**rdma_limits.LIMITS, **nccl_limits.LIMITS, **tcp_limits.LIMITS}
"""By name."""
