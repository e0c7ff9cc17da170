"""One run per set of series: two that write the same ones would make their counters jump back and forth.

A run holds the abstract unix socket that is named after its server and its constant labels. It ends with the
process, and belongs to a network namespace, as those of the filters of mode xdp do (monitors/flows/clsact.py).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE
from hashlib import sha256

from xtrace.errors import UsageError
from xtrace.sinks.metrics.sample import Labels

log = logging.getLogger(__name__)


@contextmanager
def claimed(server: str, labels: Labels) -> Iterator[None]:
    """Claim the series with these constant labels on a server. Raises UsageError if another run holds them."""
    name = sha256(repr((server, sorted(labels))).encode()).hexdigest()[:32]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind(f"\0xtrace-catch/push/{name}")
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise UsageError(
                    f"push to {server}: another xtrace-catch on this host writes the same series"
                    " (give each its own label: --label run=NAME)"
                ) from None
            log.debug("push to %s: whether another run writes the same series is not known: %s", server, error)
        yield
