"""What a server has not stored of a batch that it may have stored, in part.

VictoriaMetrics splits a large request, and what is killed may have written one part and not another.
"""

from __future__ import annotations

from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.pieces import identity
from xtrace.sinks.push.batch import Transport


def rest(transport: Transport, encoding: Encoding, body: bytes) -> bytes | None:
    """Return a compressed body with the samples of `body` that the server lacks: b"" if none, `body` if it has none.

    None if it does not show them, or not by the labels that they were sent with.
    """
    pieces = encoding.pieces(body)
    if pieces is None:
        return None
    times = [piece.at_ms for piece in pieces.samples]
    names = frozenset(name for piece in pieces.samples for name, _ in piece.labels)
    stored = transport.samples(pieces.selector, min(times), max(times), names)
    if stored is None:
        return None
    lacks = [piece.content for piece in pieces.samples if identity(piece.labels, piece.at_ms) not in stored]
    if len(lacks) == len(times):
        return None if stored else body
    return encoding.compress(b"".join(lacks)) if lacks else b""
