"""Heads of requests, well-formed and not; responses."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from xtrace.sinks.listen.http import Refused, Response, chunk, parse_request


def test_request_is_parsed() -> None:
    found = parse_request(b"GET /flows?top=3&x=%20 HTTP/1.1\r\nHost: n\r\nAccept-Encoding: br, gzip;q=0.5\r\nA:b")
    assert (found.method, found.path, found.query) == ("GET", "/flows", {"top": "3", "x": " "})
    assert found.headers == {"host": "n", "accept-encoding": "br, gzip;q=0.5", "a": "b"}
    assert found.keeps_open and found.takes_gzip


@pytest.mark.parametrize(
    "line, header, keeps_open",
    [
        ("HTTP/1.1", "connection: Close", False),
        ("HTTP/1.1", "a: b", True),
        ("HTTP/1.0", "a: b", False),
        ("HTTP/1.0", "Connection: keep-alive", True),
    ],
)
def test_connection_is_kept_as_the_client_wants(line: str, header: str, keeps_open: bool) -> None:
    assert parse_request(f"GET / {line}\r\n{header}".encode()).keeps_open is keeps_open


@pytest.mark.parametrize("codings, expected", [("gzip", True), ("*", True), ("gzip; q=0", False), ("br", False)])
def test_gzip_is_used_only_if_accepted(codings: str, expected: bool) -> None:
    assert parse_request(f"GET / HTTP/1.1\r\nAccept-Encoding: {codings}".encode()).takes_gzip is expected


@pytest.mark.parametrize(
    "head, status",
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET http://[ HTTP/1.1", 400),
        (b"GET /?" + b"&".join(b"a=1" for _ in range(30)) + b" HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"POST / HTTP/1.1", 405),
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\n folded: x", 400),
        (b"GET / HTTP/1.1\r\na : x", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 5", 413),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked", 413),
    ],
)
def test_other_requests_are_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        parse_request(head)
    assert refused.value.status == status


def test_response_has_a_length_or_is_chunked() -> None:
    head = Response(HTTPStatus.OK, body=b"abc").head(True).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n") and head.endswith("\r\n\r\n")
    assert "Content-Length: 3\r\n" in head and "Connection: keep-alive\r\n" in head
    streamed = Response(HTTPStatus.OK, pieces=(b"" for _ in ())).head(False).decode()
    assert "Transfer-Encoding: chunked\r\n" in streamed and "Connection: close\r\n" in streamed
    assert "Content-Length" not in streamed
    assert (chunk(b"x" * 26), chunk(b"")) == (b"1a\r\n" + b"x" * 26 + b"\r\n", b"0\r\n\r\n")
