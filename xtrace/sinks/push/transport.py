"""HTTP to one server by urllib3: keep-alive, authentication, TLS, proxies; meaning of answers and errors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from pathlib import PurePosixPath
from urllib.parse import urlencode, urlsplit, urlunsplit

import orjson
import urllib3
from urllib3.exceptions import HTTPError

from xtrace.printable import printable
from xtrace.sinks.metrics.pieces import identity
from xtrace.sinks.push.answers import OK, Answer, delivered, may_pass, status_message, written
from xtrace.sinks.push.batch import Outcome
from xtrace.sinks.push.connections import certificates_of, manager
from xtrace.sinks.push.secrets import Secrets, check_secret_files, read_secret
from xtrace.target import ENDS, IMPORT_PATH, OTLP, OTLP_OF_PROMETHEUS, OTLP_PATHS, REMOTE_WRITE, WRITE_PATH, Target

CONNECT_S, ANSWER_S = 5.0, 10.0
WHOLE_ANSWER_S = 60.0
"""For what a server has: it may send a byte at a time."""
HTTP_1_0 = 10
MOST_WORDS = 200
"""Characters of a server's error text that are logged."""
MOST_READ = 4096
MOST_OF_OTLP = 1 << 16
"""Bytes of OTLP's answer to a request that it took, which is read to its end: it says what was rejected."""

REDIRECTS = range(300, 400)
EXPORT_PATH, QUERY_PATH = "/api/v1/export", "/api/v1/query"
MOST_EXPORTS = 3
"""Paths tried for it where the import path is not the usual one."""
MOST_EXPORTED, MOST_STORED = 1 << 20, 1 << 28
"""Bytes that are read of what a server has: of one series, and of all of a run at a time."""


def advice(status: int, words: str) -> str:
    """Return advice for a rejection; empty if none is known."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "; set VICTORIAMETRICS_USERNAME and _PASSWORD_FILE, or _BEARER_TOKEN_FILE"
    if status in REDIRECTS:
        return "; redirects are not followed, push to the final URL"
    if status == HTTPStatus.NOT_FOUND or "unsupported path" in words:
        return "; check the path (/api/v1/import/prometheus)"
    return ""


class Http:
    """A Transport to a Target."""

    def __init__(self, target: Target, version: str) -> None:
        self._target = target
        self._secrets = Secrets()
        self._is_closed, self._is_announced = False, True
        """whether this side closed the last connection, or the server has said that it does; there was none yet"""
        self._has_reconnected = self._is_abrupt = False
        """as in Outcome, since the last one"""
        self._secrets.note_query(urlsplit(target.url).query)
        self.shown = target.shown
        self.is_known = target.form == REMOTE_WRITE or urlsplit(target.url).path.endswith(ENDS[target.form])
        self._agent = f"xtrace-catch/{version}"
        # this tool logs its own warning about unverified TLS
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        check_secret_files(target)
        self.certificates = certificates_of(target)
        """None without TLS"""
        self._manager = manager(target, self._secrets, self._connecting, self.certificates)

    def close(self) -> None:
        """Close the connections."""
        self._manager.clear()

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POST a body with its content headers and the target's headers."""
        try:
            headers = {**headers, **self._headers()}
        except OSError as error:
            return Outcome(False, True, f"{error.filename}: {error.strerror}")
        except UnicodeError:
            return Outcome(False, True, "password or token file is not text")
        try:
            outcome = self._outcome(self._request("POST", self._target.url, body, headers))
            outcome = replace(outcome, reconnected=self._has_reconnected, abruptly=self._is_abrupt)
            self._has_reconnected = self._is_abrupt = False
            return outcome
        except (HTTPError, OSError) as error:
            return Outcome(False, True, reason(error), unanswered=not never_sent(error))
        except ValueError:  # from headers; its text quotes them
            return Outcome(False, True, "user name, token or headers contain characters that HTTP does not allow")

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        """Return the times (ms) of the stored samples of a series; None if no export is found, or it is unreachable."""
        readers = {
            **dict.fromkeys(export_urls(self._target.url, selector, start_ms, end_ms), sample_times),
            **dict.fromkeys(query_urls(self._target.url, selector, start_ms, end_ms), queried_times),
        }
        return self._ask(readers.items(), MOST_EXPORTED)

    def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
        """Return the identities of the stored samples; None if no export is found, or it is unreachable."""
        read = partial(identities, names=names)
        urls = export_urls(self._target.url, selector, start_ms, end_ms)
        return self._ask(((url, read) for url in urls), MOST_STORED)

    def _ask(self, readers: Iterable[tuple[str, Callable[[bytes], set[int] | None]]], most: int) -> set[int] | None:
        """Return what is read in the first answer of at most so many bytes that is one; None if there is none."""
        for url, read in readers:
            try:
                response = self._request("GET", url, None, self._headers())
                is_found = response.status == HTTPStatus.OK
                answer = read_all(response, most if is_found else MOST_EXPORTED)  # then the connection is used again
                found = read(answer) if is_found else None
                self._finish(response)
            except (HTTPError, OSError, ValueError):
                return None
            if found is not None:
                return found
        return None

    def _request(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        if self.certificates is not None:
            self.certificates.current()  # a new connection takes it; what is wrong with new files is said before
        timeout = urllib3.Timeout(connect=CONNECT_S, read=ANSWER_S)
        response = self._manager.urlopen(
            method, url, body=body, headers=headers, timeout=timeout, redirect=False, preload_content=False
        )
        said = {option.strip() for option in response.headers.get("Connection", "").lower().split(",")}
        self._is_announced = "close" in said or (response.version == HTTP_1_0 and "keep-alive" not in said)
        return response

    def _outcome(self, response: urllib3.BaseHTTPResponse) -> Outcome:
        form, status = self._target.form, response.status
        is_otlp = form == OTLP and status in OK
        body = self._start_of(response, MOST_OF_OTLP if is_otlp else MOST_READ, is_whole=is_otlp)
        phrase = f"{status} {self._clean(response.reason or '')}".strip()
        if status in OK:
            outcome = delivered(form, Answer(status, phrase, response.headers, body))
            return replace(outcome, status=status, remark=self._clean(outcome.remark))
        said = status_message(body) if form == OTLP else body.decode("utf-8", "replace")
        line = self._clean(said)
        words = phrase + (f": {line}" if line else "") + advice(status, line)
        told = written(response.headers) if form == REMOTE_WRITE else None
        if may_pass(form, status):
            wait_s = retry_after(response.headers.get("Retry-After"))
            unanswered = status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
            return Outcome(False, True, words, wait_s, status=status, written=told, unanswered=unanswered)
        return Outcome(False, False, words, status=status, written=told)

    def _finish(self, response: urllib3.BaseHTTPResponse) -> None:
        """Reuse the connection if the response was read to its end or has no body, else close it."""
        if response.status == HTTPStatus.NO_CONTENT or response.length_remaining == 0 or response.closed:
            response.drain_conn()  # it is released at its end
        else:
            response.close()
            self._is_closed = True

    def _connecting(self) -> None:
        """Note who has closed the connection before this one."""
        if not self._is_closed:
            self._has_reconnected = True
            self._is_abrupt = self._is_abrupt or not self._is_announced
        self._is_closed = self._is_announced = False

    def _clean(self, text: str) -> str:
        """Return the start of a server's text as one line without secrets."""
        return printable(self._secrets.mask(text[:MOST_READ]), instead=" ").strip()[:MOST_WORDS]

    def _start_of(self, response: urllib3.BaseHTTPResponse, most: int, *, is_whole: bool) -> bytes:
        """Return at most so many bytes of an answer's body: what comes first, or all of it if it comes in time."""
        body, until = b"", time.monotonic() + ANSWER_S
        with suppress(HTTPError, OSError):
            body = piece = response.read1(most)
            while is_whole and piece and len(body) < most and time.monotonic() < until:
                piece = response.read1(most - len(body))
                body += piece
        self._finish(response)
        return body

    def _headers(self) -> dict[str, str]:
        """Return the target's headers. Secret files are read each time, so a rotated secret applies at once."""
        target, secrets = self._target, self._secrets
        for _, value in target.headers:
            secrets.note_header(value)
        headers = {"User-Agent": self._agent, **dict(target.headers)}
        token = target.bearer_token or read_secret(target.bearer_token_file)
        if token:
            secrets.note(token)
            headers["Authorization"] = f"Bearer {token}"
        elif target.username:
            password = target.password or read_secret(target.password_file)
            headers["Authorization"] = "Basic " + secrets.note_basic(target.username, password)
        return headers


def export_urls(url: str, selector: str, start_ms: int, end_ms: int) -> list[str]:
    """Return URLs that may export samples of a series: beside the import path (cluster: /select), or above the path.

    `selector`: one a line; any of them will do.
    """
    query = [*(("match[]", each) for each in selector.split("\n")), ("start", start_ms / 1000), ("end", end_ms / 1000)]
    return [_beside(url, prefix + EXPORT_PATH, query) for prefix in _prefixes(url)]


def query_urls(url: str, selector: str, start_ms: int, end_ms: int) -> list[str]:
    """Return the URL of Prometheus' query API beside its paths for writing, for the same samples and some before."""
    if not urlsplit(url).path.endswith((WRITE_PATH, OTLP_OF_PROMETHEUS)):
        return []
    window_s = (end_ms - start_ms) // 1000 + 2
    of_prometheus = selector.partition("\n")[0]
    query = [("query", f"{of_prometheus}[{window_s}s]"), ("time", (end_ms + 1) / 1000)]
    return [_beside(url, prefix + QUERY_PATH, query) for prefix in _prefixes(url)]


def _prefixes(url: str) -> list[str]:
    """Return what paths for reading may begin with."""
    path = urlsplit(url).path
    for end in (IMPORT_PATH, WRITE_PATH, *OTLP_PATHS):
        prefix, found, _ = path.partition(end)
        if found:
            reads = prefix.replace("/insert/", "/select/", 1)
            return [reads + "/prometheus" if reads != prefix and end in OTLP_PATHS else reads]
    return [str(above).rstrip("/") for above in PurePosixPath(path).parents][:MOST_EXPORTS]


def _beside(url: str, path: str, query: Sequence[tuple[str, object]]) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=path, query="&".join(filter(None, (parts.query, urlencode(query))))))


def read_all(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Return a body of at most so many bytes. Raises ValueError for a longer one, and for one that trickles."""
    body, until = bytearray(), time.monotonic() + WHOLE_ANSWER_S
    while piece := response.read1(MOST_EXPORTED):
        body += piece
        if len(body) > most or time.monotonic() > until:
            raise ValueError("too long")
    return bytes(body)


def identities(exported: bytes, names: frozenset[str]) -> set[int] | None:
    """Return the identities of all samples in an export, by these labels only; None if it is none."""
    found: set[int] = set()
    try:
        for line in exported.splitlines():
            series = orjson.loads(line)
            labels = [(name, value) for name, value in series["metric"].items() if name in names]
            found.update(identity(labels, at_ms) for at_ms in series["timestamps"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return found


def sample_times(exported: bytes) -> set[int] | None:
    """Return the times (ms) in an export: JSON Lines with `timestamps`; None if it is none."""
    times: set[int] = set()
    try:
        for line in exported.splitlines():
            times.update(orjson.loads(line)["timestamps"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return times


def queried_times(answer: bytes) -> set[int] | None:
    """Return the times (ms) in an answer of Prometheus' query API for a range of samples; None if it is none."""
    try:
        return {round(at_s * 1000) for found in orjson.loads(answer)["data"]["result"] for at_s, _ in found["values"]}
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def retry_after(text: str | None) -> float | None:
    """Parse Retry-After, a number or an HTTP date (RFC 9110 10.2.3), to seconds; None if absent or invalid."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def never_sent(error: BaseException) -> bool:
    """Return whether a request cannot have reached the server, as there was no connection."""
    no_connection = (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.NewConnectionError)
    return isinstance(error, (*no_connection, urllib3.exceptions.ProxyError, urllib3.exceptions.SSLError, ssl.SSLError))


def reason(error: BaseException) -> str:
    """Return why a request failed, briefly and without the URL, which urllib3's texts repeat."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "unknown host (DNS)"
    # urllib3 derives refused connections from this class too
    if type(error) is urllib3.exceptions.ConnectTimeoutError:
        return f"no connection within {CONNECT_S:.0f} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"no answer within {ANSWER_S:.0f} s"
    if isinstance(error, urllib3.exceptions.ProxyError):
        return f"proxy: {reason(error.original_error)}"
    if isinstance(error, (ssl.SSLError, urllib3.exceptions.SSLError)):
        found = next((part for part in (error, *error.args) if isinstance(part, ssl.SSLError)), None)
        detail = getattr(found, "verify_message", None) or getattr(found, "reason", None) or "failed"
        return f"TLS: {detail}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, IncompleteRead):
            return "connection closed before the end of the answer"
        if isinstance(cause, HTTPException) and not isinstance(cause, RemoteDisconnected):
            return "the answer is not valid HTTP (another protocol's port, or one for https?)"
        cause = next((part for part in cause.args if isinstance(part, BaseException)), None) or cause.__cause__
    return "connection closed before the answer"
