"""Values that all shells complete."""

from __future__ import annotations

from typing import Any

from xtrace.model.thresholds import THRESHOLDS
from xtrace.options.option import Option, Source


def words_of(option: Option[Any]) -> tuple[str, ...]:
    """Return the fixed values of an option; a threshold's name is followed by its value."""
    if option.source is Source.THRESHOLDS:
        return tuple(f"{name}=" for name in THRESHOLDS)
    return option.values
