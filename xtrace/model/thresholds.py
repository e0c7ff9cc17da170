"""All thresholds that --threshold sets."""

from __future__ import annotations

from xtrace.model import rdma_health, tcp_limits
from xtrace.model.limits import Limits

THRESHOLDS: Limits = {**rdma_health.LIMITS, **tcp_limits.LIMITS}
"""By name."""
