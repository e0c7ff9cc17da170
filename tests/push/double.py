"""A small HTTP server with scripted answers, optionally in front of VictoriaMetrics."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import urllib3

GZIP = 16 + zlib.MAX_WBITS


@dataclass
class Request:
    """A received request."""

    at: float
    target: str
    headers: Message
    """case-insensitive"""
    body: bytes
    client: str = ""
    """common name in the client's certificate"""

    @property
    def text(self) -> str:
        """The exposition."""
        return zlib.decompress(self.body, GZIP).decode()


@dataclass
class Answer:
    """A response; `drip_s` is the pause after each byte of the body."""

    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    reason: str | None = None
    """phrase after the status; None: the usual one"""
    is_lost: bool = False
    """whether the request is forwarded, and the connection then closed without an answer"""


def common_name(connection: socket.socket) -> str:
    """Return the name in the certificate of the client; empty without one."""
    shown: Any = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    return str(dict(field for (field,) in shown["subject"])["commonName"]) if shown else ""


class Double:
    """`answer` gets the request's number, from 0, and returns the response; None forwards to `behind`.

    `rewrite` makes the path there. `keeps_open`: else each request has a connection of its own.
    """

    def __init__(
        self,
        answer: Callable[[int], Answer | None],
        behind: str | None = None,
        tls: ssl.SSLContext | None = None,
        rewrite: Callable[[str], str] = str,
        *,
        keeps_open: bool = True,
    ) -> None:
        self.requests: list[Request] = []
        self._answer, self._behind, self._rewrite = answer, behind, rewrite
        self._http = urllib3.PoolManager(retries=False)
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            """seconds; close() waits for connections"""

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Log nothing."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(time.monotonic(), self.path, self.headers, body, common_name(self.connection))
                double.requests.append(request)
                with suppress(ConnectionError):
                    self._send(double.answer_to(request))

            do_GET = do_POST  # noqa: N815

            def _send(self, answer: Answer) -> None:
                if answer.is_lost:
                    self.close_connection = True
                    return
                self.send_response(answer.status, answer.reason)
                has_length = answer.status != 204 and "Transfer-Encoding" not in answer.headers
                length = {"Content-Length": str(len(answer.body))} if has_length else {}
                closing = {} if keeps_open else {"Connection": "close"}
                for name, value in {**length, **closing, **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for byte in answer.body if answer.drip_s else ():
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    double.ended.wait(answer.drip_s)
                if not answer.drip_s:
                    self.wfile.write(answer.body)

        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def base(self) -> str:
        """Its URL, without a path."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def answer_to(self, request: Request) -> Answer:
        """Return the scripted answer, or that of the server behind."""
        answer = self._answer(len(self.requests) - 1)
        if answer is not None and not answer.is_lost:
            return answer
        parts = urlsplit(request.target)
        forwarded = ("Content-Encoding", "Content-Type")
        headers = {name: request.headers[name] for name in forwarded if name in request.headers}
        url = f"{self._behind}{self._rewrite(parts.path)}?{parts.query}"
        got = self._http.request("POST" if request.body else "GET", url, body=request.body or None, headers=headers)
        return answer or Answer(got.status, got.data)

    def wait_for(self, number: int, limit_s: float = 60.0) -> Request:
        """Wait for the request of that number and return it."""
        deadline = time.monotonic() + limit_s
        while len(self.requests) <= number:
            assert time.monotonic() < deadline, f"{len(self.requests)} requests came"
            time.sleep(0.01)
        return self.requests[number]

    def close(self) -> None:
        """Stop the server."""
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._http.clear()


@contextmanager
def double(
    answer: Callable[[int], Answer | None],
    behind: str | None = None,
    tls: ssl.SSLContext | None = None,
    rewrite: Callable[[str], str] = str,
    *,
    keeps_open: bool = True,
) -> Iterator[Double]:
    """Run a Double for the block."""
    made = Double(answer, behind, tls, rewrite, keeps_open=keeps_open)
    try:
        yield made
    finally:
        made.close()
