"""Bodies made of samples: what every form of them provides, whoever sends or serves it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from xtrace.sinks.metrics.sample import Interval, Metric, Sample

GZIP_LEVEL = 6
"""gzip's own; a fifth smaller than 1."""
_GZIP = 16 + zlib.MAX_WBITS


class Encoding(Protocol):
    """Collects the samples of one tick, of all monitors, and makes one body of them. It knows the constant labels."""

    headers: Mapping[str, str]
    """HTTP headers that say what a compressed body is"""

    def add(self, samples: Iterable[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Take samples, whose metrics are all among those described."""

    def __len__(self) -> int:
        """How many values, each with its time, have been added since the last body."""

    def body(self) -> bytes:
        """What has been added, and begin anew."""

    def compress(self, body: bytes) -> bytes:
        """A body as the headers announce it. May be called by another thread than the one that adds."""


def gzip(body: bytes) -> bytes:
    """`body` in gzip's format (RFC 1952)."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()
