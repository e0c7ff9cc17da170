"""Thresholds of NCCL verdicts. Apart from what uses them, as every command line is read with them."""

from __future__ import annotations

from xtrace.model.limits import SECONDS, Limit

LIMITS: dict[str, Limit] = {
    "hang": Limit(SECONDS, 30.0, None, "that ranks of an NCCL communicator wait for another one"),
    "late": Limit(SECONDS, 0.1, None, "by which a rank begins NCCL calls after the others"),
}
"""Ranks may wait, or be later than the others, for so long."""
