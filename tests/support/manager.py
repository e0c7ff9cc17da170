"""A service manager, as far as a service sees it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def manager_socket(directory: Path, limit_s: float) -> Iterator[socket.socket]:
    """The socket that NOTIFY_SOCKET names, in the directory; reading from it may take so long, 0 for not at all."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(directory / "notify"))
        made.settimeout(limit_s)
        yield made
