"""The samples of a request one by one: of one that a server has in part, the others are sent alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

NAME = "__name__"


class Piece(NamedTuple):
    """One sample."""

    labels: Sequence[tuple[str, str]]
    """all of the series, the metric as __name__"""
    at_ms: int
    content: bytes
    """a request's body with this sample only; bodies may be joined"""


class Pieces(NamedTuple):
    """All samples of a request."""

    selector: str
    """of PromQL: all series of the run, and perhaps more"""
    samples: Sequence[Piece]


def identity(labels: Iterable[tuple[str, str]], at_ms: int) -> int:
    """Return a number for a sample of a series: in this process always the same, and no other's in practice."""
    return hash((frozenset(labels), at_ms))
