"""One connection of the HTTP server: reads a request, sends its response, both within limits; never blocks."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE

from xtrace.sinks.listen.http import END, Pieces, Refused, Request, Response, chunk, parse_request

MOST_HEAD = 8192
"""Bytes of a request's head."""
HEAD_S = 5.0
"""For a TLS handshake, and for a request's head from its first byte."""
IDLE_S = 150.0
"""Between two requests; scrapers keep connections over their interval, often a minute."""
REPLY_S = 30.0
"""For sending a response, all of it."""
LINGER_S, MOST_LINGER = 1.0, 1 << 18
"""After a response that ends the connection: what the client still sends is read, or a reset could overtake it."""
AT_ONCE = 1 << 18
"""Bytes sent before other connections get a turn."""

Answer = Callable[[Request], Response]


class State(Enum):
    """What a connection waits for."""

    HANDSHAKE = "handshake"
    IDLE = "idle"
    HEAD = "head"
    REPLY = "reply"
    LINGER = "linger"
    CLOSED = "closed"


class Connection:
    """Owns a non-blocking socket. `now` is in seconds, monotonic."""

    def __init__(self, peer: socket.socket, answer: Answer, now: float) -> None:
        self.socket = peer
        self.events = EVENT_READ
        """what to wait for"""
        self.requests = 0
        """answered"""
        self.is_refused = False
        """whether it ended with an error of the client, or before an answer"""
        self.may_stay_open: Callable[[], bool] = lambda: True
        """asked as a request is answered; if not, the answer is the last on this connection"""
        self.state = State.HEAD
        self.deadline = now + HEAD_S
        self._answer = answer
        self._received = bytearray()
        self._sending = memoryview(b"")
        self._pieces: Pieces | None = None
        self._keeps_open = False
        self._lingered = 0

    def react(self, now: float) -> None:
        """Go on as far as possible without blocking, after one of `events`."""
        try:
            while self._step(now):
                pass
        except OSError as error:
            awaited = self._awaited(error)
            if awaited:
                self.events = awaited
            else:  # a reset, a failed handshake
                self.close()

    def expire(self) -> None:
        """End it: its time is over, or another connection needs its place."""
        self.is_refused = self.is_refused or self.state not in (State.IDLE, State.LINGER)
        self.close()

    def close(self) -> None:
        """Close the socket and give up the response."""
        self.state = State.CLOSED
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None
        self.socket.close()

    def _step(self, now: float) -> bool:
        """Do one thing; return whether to go on at once."""
        if self.state in (State.HEAD, State.IDLE):
            self._read(now)
        elif self.state is State.REPLY:
            return self._send(now)
        elif self.state is State.LINGER:
            self._discard()
        return self.state is not State.CLOSED

    def _awaited(self, error: OSError) -> int:
        """Return what to wait for after an error that only says that it would block; else 0."""
        if not isinstance(error, BlockingIOError):
            return 0
        return EVENT_WRITE if self.state is State.REPLY else EVENT_READ

    def _read(self, now: float) -> None:
        if not self._has_head():
            data = self.socket.recv(MOST_HEAD + 1 - len(self._received))
            if not data:
                self.is_refused = bool(self._received)
                self.close()
                return
            if self.state is State.IDLE:
                self.state, self.deadline = State.HEAD, now + HEAD_S
            self._received += data
        if self._has_head():
            head, _, rest = bytes(self._received).partition(END)
            self._received = bytearray(rest)
            self._reply(head, now)
        elif len(self._received) > MOST_HEAD:
            too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._start(Response.text(too_large, f"a request's head has at most {MOST_HEAD} bytes"), False, False, now)

    def _has_head(self) -> bool:
        return self._received.find(END, 0, MOST_HEAD + 1) >= 0

    def _reply(self, head: bytes, now: float) -> None:
        try:
            request = parse_request(head)
        except Refused as refused:
            self._start(Response.text(refused.status, str(refused)), False, False, now)
            return
        response = self._answer(request)
        keeps_open = request.keeps_open and self.may_stay_open()
        self._start(response, keeps_open, request.method == "HEAD", now)

    def _start(self, response: Response, keeps_open: bool, head_only: bool, now: float) -> None:
        """Begin to send."""
        self.requests += 1
        self.is_refused = self.is_refused or (not keeps_open and response.status in REFUSALS)
        self._keeps_open = keeps_open
        self._pieces = response.pieces
        if head_only and self._pieces is not None:
            self._pieces.close()
            self._pieces = None
        self._sending = memoryview(response.head(keeps_open) + (b"" if head_only else response.body))
        self.state, self.deadline = State.REPLY, now + REPLY_S

    def _send(self, now: float) -> bool:
        """Send the next part of the response; return whether this connection should go on before others."""
        sent = 0
        while sent < AT_ONCE:
            while not self._sending and self._pieces is not None:
                piece = next(self._pieces, b"")
                self._sending = memoryview(chunk(piece))
                if not piece:
                    self._pieces = None
            if not self._sending:
                self._finish(now)
                return True
            number = self.socket.send(self._sending)
            self._sending = self._sending[number:]
            sent += number
        self.events = EVENT_WRITE
        return False

    def _finish(self, now: float) -> None:
        """Wait for another request, or for the client to close."""
        self.events = EVENT_READ
        if self._keeps_open:
            self.state, self.deadline = State.IDLE, now + IDLE_S
            if self._received:
                self.state, self.deadline = State.HEAD, now + HEAD_S
            return
        self.state, self.deadline = State.LINGER, now + LINGER_S
        self._end_sending()

    def _end_sending(self) -> None:
        """Tell the client that nothing follows."""
        self.socket.shutdown(socket.SHUT_WR)

    def _discard(self) -> None:
        data = self.socket.recv(AT_ONCE)
        self._lingered += len(data)
        if not data or self._lingered > MOST_LINGER:
            self.close()


REFUSALS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    }
)
"""Answers to what is no proper request."""
