"""Values that all shells complete."""

from __future__ import annotations

from typing import Any

from xtrace.model.thresholds import THRESHOLDS
from xtrace.options.option import Option, Source

SUBCOMMANDS = {
    "report": ("-o", "--output", "-h", "--help"),
    "hang": ("-o", "--format", "--threshold", "-h", "--help"),
}
"""Flags of what may be the first word; both read files. Their own help describes them."""


def words_of(option: Option[Any]) -> tuple[str, ...]:
    """Return the fixed values of an option; a threshold's name is followed by its value."""
    if option.source is Source.THRESHOLDS:
        return tuple(f"{name}=" for name in THRESHOLDS)
    return option.values
