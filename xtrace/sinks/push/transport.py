"""HTTP to one server by urllib3: keep-alive, authentication, TLS, proxies; meaning of answers and errors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from xtrace.printable import printable
from xtrace.sinks.push.connections import manager
from xtrace.sinks.push.delivery import Outcome
from xtrace.sinks.push.secrets import Secrets, check_secret_files, read_secret
from xtrace.sinks.push.selfcheck import Probe
from xtrace.target import IMPORT_PATH, Target

CONNECT_S, ANSWER_S = 5.0, 10.0
MOST_WORDS = 200
"""Characters of a server's error text that are logged."""
MOST_READ = 4096

OK, REDIRECTS, TOO_MANY_REQUESTS, REQUEST_TIMEOUT = range(200, 300), range(300, 400), 429, 408
NO_CONTENT = 204

EXPORT_PATH = "/api/v1/export"


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
        self._secrets.note_query(urlsplit(target.url).query)
        self.shown = target.shown
        self._agent = f"xtrace-catch/{version}"
        # this tool logs its own warning about unverified TLS
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        check_secret_files(target)
        self._manager = manager(target, self._secrets)

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
            response = self._request("POST", self._target.url, body, headers)
            return self._outcome(response)
        except (HTTPError, OSError) as error:
            return Outcome(False, True, reason(error))
        except ValueError:  # from headers; its text quotes them
            return Outcome(False, True, "user name, token or headers contain characters that HTTP does not allow")

    def stored(self, probe: Probe) -> bool | None:
        """Query the export endpoint for one sample; None if there is none or it cannot be reached."""
        url = export_url(self._target.url, probe)
        if url is None:
            return None
        try:
            response = self._request("GET", url, None, self._headers())
            found = some_of(response)
        except (HTTPError, OSError, ValueError):
            return None
        return bool(found.strip()) if response.status == 200 else None

    def _request(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        timeout = urllib3.Timeout(connect=CONNECT_S, read=ANSWER_S)
        return self._manager.urlopen(
            method, url, body=body, headers=headers, timeout=timeout, redirect=False, preload_content=False
        )

    def _outcome(self, response: urllib3.BaseHTTPResponse) -> Outcome:
        status = response.status
        if status in OK:
            # a connection with a body left unread is not reused
            if status == NO_CONTENT or response.headers.get("Content-Length") == "0":
                response.drain_conn()
                response.release_conn()
            else:
                response.close()
            return Outcome(True)
        words = self._words(response)
        if status >= 500 or status in (TOO_MANY_REQUESTS, REQUEST_TIMEOUT):
            return Outcome(False, True, words, retry_after(response.headers.get("Retry-After")))
        return Outcome(False, False, words)

    def _words(self, response: urllib3.BaseHTTPResponse) -> str:
        """Return `400 Bad Request: start of the server's text`."""
        try:
            text = some_of(response).decode("utf-8", "replace")
        except (HTTPError, OSError):
            text = ""
        phrase = printable(self._secrets.mask(response.reason or ""), instead=" ").strip()[:MOST_WORDS]
        line = printable(self._secrets.mask(text), instead=" ").strip()[:MOST_WORDS]
        status = f"{response.status} {phrase}".strip()
        return status + (f": {line}" if line else "") + advice(response.status, line)

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


def export_url(url: str, probe: Probe) -> str | None:
    """Return the export URL for one sample; None if it cannot be derived from the import URL."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith(IMPORT_PATH):
        return None
    query = urlencode({"match[]": probe.selector, "start": probe.at_ms / 1000, "end": probe.at_ms / 1000})
    return urlunsplit(parts._replace(path=path.removesuffix(IMPORT_PATH) + EXPORT_PATH, query=query))


def some_of(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the part of a body that is available at once; the connection is closed."""
    try:
        return response.read1(MOST_READ) or b""
    finally:
        response.close()


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
        cause = next((part for part in cause.args if isinstance(part, BaseException)), None) or cause.__cause__
    return "connection closed before the answer"
