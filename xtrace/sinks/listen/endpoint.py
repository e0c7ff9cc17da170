"""The listening socket: TCP or unix."""

from __future__ import annotations

import socket
import stat
from contextlib import suppress
from errno import ECONNREFUSED
from pathlib import Path

from xtrace.errors import UsageError

BACKLOG = 128


class Endpoint:
    """Owns a unix socket's file. The socket belongs to the server."""

    def __init__(self, where: tuple[str, int] | str) -> None:
        """`where`: host and port, or the path of a unix socket. Raises UsageError."""
        self._path = Path(where) if isinstance(where, str) else None
        try:
            self.socket = unix_socket(self._path) if self._path else tcp_socket(*where)
        except OSError as error:
            shown = where if isinstance(where, str) else f"{where[0]}:{where[1]}"
            raise UsageError(
                f"--listen {shown}: {error.strerror} (choose an address of this host, and a free port)"
            ) from None

    def close(self) -> None:
        """Remove a unix socket's file."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()


def tcp_socket(host: str, port: int) -> socket.socket:
    """Return a non-blocking listening socket. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return _listening(made)
    except OSError:
        made.close()
        raise


def unix_socket(path: Path) -> socket.socket:
    """Return the same at a path, for its owner only; replaces what a killed run has left. Raises OSError."""
    _remove_leftover(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(0o600)  # nobody can connect before listen()
        return _listening(made)
    except OSError:
        made.close()
        raise


def _listening(made: socket.socket) -> socket.socket:
    made.listen(BACKLOG)
    made.setblocking(False)
    return made


def _remove_leftover(path: Path) -> None:
    """Remove a socket that nobody listens at."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        return  # bind() then reports that the path is in use
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) == ECONNREFUSED:
            path.unlink()
