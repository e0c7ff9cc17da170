"""Basic authentication (RFC 7617) against bcrypt hashes, in front of all pages."""

from __future__ import annotations

import os
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from hashlib import blake2b
from http import HTTPStatus

from xtrace.kernel.syscall import lib
from xtrace.sinks.listen.connection import Answer
from xtrace.sinks.listen.http import Request, Response

CHALLENGE = {"WWW-Authenticate": 'Basic realm="xtrace-catch", charset="UTF-8"'}
PAUSE_S = 0.5
"""After a wrong password, before the next unknown one is checked: a check takes 0.1 s of CPU time."""
MOST_KNOWN = 64


class Passwords:
    """Answers those who know a password. What was right is remembered, as clients send it with each request."""

    def __init__(
        self, users: Callable[[], Mapping[str, str]], answer: Answer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`users` returns bcrypt hashes by user, as they are now; empty: nobody needs a password."""
        self._ask_for_users = users
        self._users: Mapping[str, str] = {}
        """of the last request"""
        self._answer = answer
        self._clock = clock
        self._secret = os.urandom(32)
        self._known: dict[bytes, None] = {}
        """keyed digests of what was right, the oldest first"""
        self._checks_at = 0.0

    def answer(self, request: Request) -> Response:
        """Return the page, or the demand for a password."""
        users = self._ask_for_users()
        if users != self._users:
            self._users = users
            self._known.clear()
        if not users:
            return self._answer(request)
        given = request.headers.get("authorization", "")
        digest = blake2b(given.encode("latin-1"), key=self._secret).digest()
        if digest in self._known:
            return self._answer(request)
        name, password = credentials(given)
        if name is None:
            return Response.text(HTTPStatus.UNAUTHORIZED, "a user and a password are needed", **CHALLENGE)
        if self._clock() < self._checks_at:
            text = "a wrong password was given just now; try again"
            return Response.text(HTTPStatus.TOO_MANY_REQUESTS, text, **{"Retry-After": "1"})
        if not self._is_right(name, password):
            self._checks_at = self._clock() + PAUSE_S
            return Response.text(HTTPStatus.UNAUTHORIZED, "wrong user or password", **CHALLENGE)
        self._known[digest] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return self._answer(request)

    def _is_right(self, name: str, password: bytes) -> bool:
        # an unknown user takes as long as a known one, so that nobody learns the names
        hashed = self._users.get(name) or next(iter(self._users.values()))
        return lib.xt_password_matches(password, hashed.encode()) == 1 and name in self._users


def credentials(header: str) -> tuple[str | None, bytes]:
    """Return user and password of an Authorization header; None without."""
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
        if scheme.lower() != "basic" or not colon or b"\0" in password:
            return None, b""
        return name.decode(), password
    except ValueError:
        return None, b""
