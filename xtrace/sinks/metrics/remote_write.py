"""Prometheus remote write, 1.0 and 2.0: a message in protobuf, in a block of snappy.

https://prometheus.io/docs/specs/prw/remote_write_spec/
https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/

A run begins with 2.0, which may refer to the same text many times; push/negotiation.py finds out whether the server
takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xtrace.sinks.metrics import write_request_1 as one
from xtrace.sinks.metrics import write_request_2 as two
from xtrace.sinks.metrics.exposition import label_text, selector_of_all
from xtrace.sinks.metrics.following import Following
from xtrace.sinks.metrics.pieces import Pieces
from xtrace.sinks.metrics.sample import Labels
from xtrace.sinks.metrics.snappy import compressor, decompress, first_byte

_COMMON = {"Content-Encoding": "snappy"}
HEADERS_1: Mapping[str, str] = {
    **_COMMON,
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
HEADERS_2: Mapping[str, str] = {
    **_COMMON,
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}


class RemoteWrite(Following[Any]):
    """A request per tick as an Encoding. A series that ends gets a stale marker 1 ms after its last sample.

    `constant` labels are added to every series; a label of the same name in the sample overrides them.
    """

    form = "remote-write"

    def __init__(self, constant: Labels) -> None:
        super().__init__(two.Request(constant))
        self._constant = constant
        self._compress = compressor()
        self._falls_back = False

    def fall_back(self) -> None:
        """Write 1.0 from the next request on. May be called from another thread."""
        self._falls_back = True

    def _finished(self) -> bytes:
        body = super()._finished()
        if self._falls_back and not isinstance(self._message, one.WriteRequest):
            self._replace(one.WriteRequest(self._constant))
        return body

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Return the content headers of a compressed body: it may be one of an earlier run."""
        return HEADERS_2 if first_byte(body) == two.FIRST_BYTE else HEADERS_1

    def selector(self, name: str) -> str:
        """Return the name and the constant labels."""
        return f"{name}{{{label_text(self._constant)}}}"

    def compress(self, body: bytes) -> bytes:
        """Return a block of snappy."""
        return self._compress(body)

    def pieces(self, body: bytes) -> Pieces | None:
        """Return the samples, as 1.0 has them; None if there are none."""
        written = decompress(self.as_version_1(body) if first_byte(body) == two.FIRST_BYTE else body)
        found = list(one.pieces(written))
        return Pieces(selector_of_all(self._constant), found) if found else None

    def empty_version_2(self) -> bytes:
        """Return a compressed 2.0 request without samples."""
        return self._compress(two.Request(()).finish())

    def as_version_1(self, body: bytes) -> bytes:
        """Return a compressed 2.0 request as one of 1.0."""
        return self._compress(one.of_series(two.series_of(decompress(body))))


def samples_in(body: bytes) -> int:
    """Return the number of samples, stale markers among them, in a compressed 2.0 request."""
    return two.count_samples(decompress(body))
