"""HTTP/1.1 (RFC 9112) as far as a scrape needs it: the head of a request, and a response. No input or output."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

END = b"\r\n\r\n"
METHODS = ("GET", "HEAD")


class Refused(Exception):
    """A request that is answered with an error; the text is the body."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        self.status = status
        super().__init__(text)


@dataclass(frozen=True)
class Request:
    """The head of a request."""

    method: str
    path: str
    query: Mapping[str, str]
    """the last value of each parameter"""
    headers: Mapping[str, str] = field(default_factory=dict)
    """names in lower case"""
    keeps_open: bool = True

    @property
    def takes_gzip(self) -> bool:
        """Whether Accept-Encoding allows gzip."""
        for coding in self.headers.get("accept-encoding", "").lower().split(","):
            name, _, quality = (part.strip() for part in coding.partition(";"))
            if name in ("gzip", "*") and quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
                return True
        return False


def parse_request(head: bytes) -> Request:
    """Parse a request's head, without the empty line at its end. Raises Refused."""
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=20).items()}
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "malformed request line") from None
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is needed")
    if method not in METHODS:
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Refused(HTTPStatus.BAD_REQUEST, "malformed header")
        headers[name.lower()] = value.strip()
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request must not have a body")
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    keeps_open = "close" not in options if version == "HTTP/1.1" else "keep-alive" in options
    return Request(method, parts.path, query, headers, keeps_open)


Pieces = Generator[bytes, None, None]


@dataclass(frozen=True)
class Response:
    """A response with a whole body, or one that is made piece by piece as it is sent."""

    status: HTTPStatus
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    pieces: Pieces | None = None
    """instead of `body`"""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, status: HTTPStatus, text: str, **headers: str) -> Response:
        """Return a response with a line of text."""
        return cls(status, body=f"{text}\n".encode(), headers=headers)

    def head(self, keeps_open: bool) -> bytes:
        """Return the status line and all headers."""
        length = {"Transfer-Encoding": "chunked"} if self.pieces else {"Content-Length": str(len(self.body))}
        fields = {
            "Content-Type": self.content_type,
            **length,
            "Connection": "keep-alive" if keeps_open else "close",
            "X-Content-Type-Options": "nosniff",
            **self.headers,
        }
        lines = (f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{''.join(lines)}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return data as a chunk; b"" is the last one (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
