"""A small HTTP server in a thread of its own: bounded in connections, bytes and time. The tick never waits for it."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from selectors import EVENT_READ

from xtrace.sinks.listen.connection import Answer, Connection, State

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
GIVING_WAY = (State.LINGER, State.IDLE, State.HANDSHAKE, State.HEAD, State.REPLY)
"""Which connections give way to a new one, the oldest first: slow clients keep nobody out."""
AT_ONCE = 32
"""Connections accepted before the others get a turn."""
PAUSE_S = 0.2
"""After accept() failed, for lack of descriptors."""
CLOSES_WITHIN_S = 2.0


@dataclass
class Served:
    """What the server has done so far."""

    requests: int = 0
    refused: int = 0
    """connections closed before an answer, or malformed"""


class Server:
    """Owns the listening socket, the connections and the thread."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Answer,
        connection: Callable[[socket.socket, Answer, float], Connection] = Connection,
    ) -> None:
        """`connection` makes one of what was accepted, or raises OSError."""
        self.served = Served()
        self._listener = listener
        self._answer = answer
        self._connection = connection
        self._connections: dict[int, Connection] = {}
        """by descriptor, the oldest first"""
        self._accepts_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(listener, EVENT_READ)
        self._selector.register(self._wake_read, EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; close all connections and the listening socket."""
        os.write(self._wake_write, b"\0")
        self._thread.join(CLOSES_WITHIN_S)
        if self._thread.is_alive():  # rendering; it ends with the process
            return
        for connection in self._connections.values():
            connection.close()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._listener.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(self._timeout()):
                if key.fd == self._wake_read:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._react(key.fd)
            self._expire()

    def _timeout(self) -> float | None:
        """Return the seconds until the next deadline; None without connections."""
        deadlines = [connection.deadline for connection in self._connections.values()]
        if self._accepts_at:
            deadlines.append(self._accepts_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                peer, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.debug("listen: accept: %s", error.strerror)
                self._accepts_at = time.monotonic() + PAUSE_S
                self._selector.unregister(self._listener)
                return
            self._admit(peer)

    def _admit(self, peer: socket.socket) -> None:
        """Take a connection in, if need be in place of another."""
        if len(self._connections) >= MOST_CONNECTIONS:
            self._end(next(self._giving_way()))
        peer.setblocking(False)
        try:
            connection = self._connection(peer, self._answer, time.monotonic())
        except OSError:  # it has been reset
            peer.close()
            return
        self._connections[connection.socket.fileno()] = connection
        self._selector.register(connection.socket, connection.events)

    def _giving_way(self) -> Iterator[int]:
        for state in GIVING_WAY:
            yield from (fd for fd, connection in self._connections.items() if connection.state is state)

    def _end(self, fd: int) -> None:
        """End a connection before its time."""
        self._connections[fd].expire()
        self._forget(fd)

    def _react(self, fd: int) -> None:
        connection = self._connections.get(fd)
        if connection is None:  # closed after this round of events began
            return
        try:
            connection.react(time.monotonic())
        except Exception as error:
            log.error("listen: internal error: %r; --debug shows where", error)
            log.debug("", exc_info=error)
            connection.close()
        if connection.state is State.CLOSED:
            self._forget(fd)
        else:
            self.served.requests += connection.requests
            connection.requests = 0
            self._selector.modify(fd, connection.events)

    def _expire(self) -> None:
        now = time.monotonic()
        if self._accepts_at and now >= self._accepts_at:
            self._accepts_at = 0.0
            self._selector.register(self._listener, EVENT_READ)
        for fd in [fd for fd, connection in self._connections.items() if connection.deadline <= now]:
            self._end(fd)

    def _forget(self, fd: int) -> None:
        """Note what a closed connection did."""
        connection = self._connections.pop(fd)
        self._selector.unregister(fd)
        self.served.requests += connection.requests
        if not connection.is_refused:
            return
        self.served.refused += 1
        if self.served.refused == 1:
            log.warning("listen: connections that are too many, too slow or malformed are refused, and counted")
