"""The same by TLS. A module of its own: without TLS the module ssl, 4 MB, is not loaded."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE

from xtrace.sinks.listen.connection import Answer, Connection, State


class TlsConnection(Connection):
    """A connection that begins with a handshake."""

    def __init__(self, peer: socket.socket, context: ssl.SSLContext, answer: Answer, now: float) -> None:
        """Raises OSError if the client has gone."""
        self._tls = context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        super().__init__(self._tls, answer, now)
        self.state = State.HANDSHAKE

    def _step(self, now: float) -> bool:
        if self.state is not State.HANDSHAKE:
            return super()._step(now)
        self._tls.do_handshake()
        self.state = State.HEAD
        return True

    def _awaited(self, error: OSError) -> int:
        if isinstance(error, ssl.SSLWantReadError):
            return EVENT_READ
        return EVENT_WRITE if isinstance(error, ssl.SSLWantWriteError) else super()._awaited(error)

    def _end_sending(self) -> None:
        """Do nothing: shutdown() would be in plain text."""


def connection(
    current: Callable[[], ssl.SSLContext | None], peer: socket.socket, answer: Answer, now: float
) -> Connection:
    """Return a connection, by TLS with the current context if there is one. Raises OSError if the client has gone.

    Once the context is another it answers one more request: the client may be one whose certificate counts no more.
    """
    context = current()
    made = Connection(peer, answer, now) if context is None else TlsConnection(peer, context, answer, now)
    made.may_stay_open = lambda: current() is context
    return made
