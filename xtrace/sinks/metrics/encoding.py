"""The interface of encodings, which turn samples into request bodies."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from xtrace.sinks.metrics.pieces import Pieces
from xtrace.sinks.metrics.sample import Interval, Metric, Sample

GZIP_LEVEL = 6
"""gzip's default; output is a fifth smaller than at level 1."""
GZIP = 16 + zlib.MAX_WBITS
"""`wbits` of zlib for this format"""


class Encoding(Protocol):
    """Collects one tick's samples of all monitors, adds the constant labels and encodes them as one body."""

    form: str
    """import, remote-write or otlp"""

    def add(self, samples: Iterable[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Add samples; `described` contains all their metrics."""

    def __len__(self) -> int:
        """Return how many timestamped values were added since the last body."""

    def body(self) -> bytes:
        """Return everything added so far and start over."""

    def last_body(self) -> bytes:
        """Return what has to be said once a run has ended; b"" if nothing."""

    def compress(self, body: bytes) -> bytes:
        """Compress a body as announced by `headers`. May be called from another thread."""

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Return the HTTP content headers of a compressed body."""

    def selector(self, name: str) -> str:
        """Return PromQL selectors, one a line, any of which finds a metric without labels of its own."""

    def pieces(self, body: bytes) -> Pieces | None:
        """Return the samples of a compressed body, perhaps one of an earlier run; None if they cannot be told apart."""


def gzip(body: bytes) -> bytes:
    """Compress `body` to the gzip format (RFC 1952)."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP)
    return packer.compress(body) + packer.flush()
