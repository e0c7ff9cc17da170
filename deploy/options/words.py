"""What all shells complete."""

from __future__ import annotations

from typing import Any

from xtrace.model.rdma_health import LIMITS
from xtrace.options.option import Option, Source


def words_of(option: Option[Any]) -> tuple[str, ...]:
    """Values that are known beforehand; a threshold goes on after its name."""
    if option.source is Source.THRESHOLDS:
        return tuple(f"{name}=" for name in LIMITS)
    return option.values
