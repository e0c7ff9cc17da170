"""HTTP to one server by urllib3: keep-alive, authentication, TLS, proxies; and what answers and errors mean."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.exceptions import HTTPError

from xtrace.errors import UsageError
from xtrace.printable import printable
from xtrace.sinks.push.delivery import Outcome
from xtrace.sinks.push.selfcheck import Probe
from xtrace.target import IMPORT_PATH, PREFIX, Target

CONNECT_S, ANSWER_S = 5.0, 10.0
MOST_WORDS = 200
"""Characters of a server's complaint that are told."""
MOST_READ = 4096

OK, TOO_MANY_REQUESTS, REQUEST_TIMEOUT = range(200, 300), 429, 408
NO_CONTENT = 204

EXPORT_PATH = "/api/v1/export"


def advice(status: int, words: str) -> str:
    """What to do about a refusal, where that is known."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "; set VICTORIAMETRICS_USERNAME and _PASSWORD_FILE, or _BEARER_TOKEN_FILE"
    if status == HTTPStatus.NOT_FOUND or "unsupported path" in words:
        return "; is the path /api/v1/import/prometheus?"
    return ""


class Http:
    """Sends to a Target."""

    def __init__(self, target: Target, version: str) -> None:
        self._target = target
        self.shown = target.shown
        self._agent = f"xtrace-catch/{version}"
        # unverified TLS is warned of by this tool, in its own words
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        _check_secret_files(target)
        context = tls_context(target) if target.is_https else None
        self._manager = manager(target, context)

    def close(self) -> None:
        """Close the connections."""
        self._manager.clear()

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POST a body, with what `headers` say of it beside the server's own."""
        try:
            headers = {**headers, **self._headers()}
        except OSError as error:
            return Outcome(False, True, f"{error.filename}: {error.strerror}")
        except UnicodeError:
            return Outcome(False, True, "the file of the password or token is no text")
        try:
            response = self._request("POST", self._target.url, body, headers)
            return self._outcome(response)
        except (HTTPError, OSError) as error:
            return Outcome(False, True, reason(error))
        except ValueError:  # of headers, and its text would quote them
            return Outcome(False, True, "user, token or headers hold characters that HTTP does not allow")

    def stored(self, probe: Probe) -> bool | None:
        """Ask the server's export for one sample; None where it has no such path, or is not to be reached."""
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
            # nothing is expected to follow: a connection on which something does is not used again
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
        """`400 Bad Request: the server's first line`."""
        try:
            text = some_of(response).decode("utf-8", "replace")
        except (HTTPError, OSError):
            text = ""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        line = printable(text, instead=" ").strip()[:MOST_WORDS]
        said = f"{response.status} {response.reason or ''}".strip() + (f": {line}" if line else "")
        return said + advice(response.status, line)

    def _headers(self) -> dict[str, str]:
        """Files are read for each request, so that a new password or token counts at once."""
        target = self._target
        headers = {"User-Agent": self._agent, **dict(target.headers)}
        token = target.bearer_token or _secret_file(target.bearer_token_file)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        elif target.username:
            password = target.password or _secret_file(target.password_file) or ""
            basic = f"{target.username}:{password}".encode()
            headers["Authorization"] = "Basic " + _base64(basic)
        return headers

    def _secrets(self) -> list[str]:
        target = self._target
        try:
            files = [_secret_file(target.password_file), _secret_file(target.bearer_token_file)]
        except OSError:
            files = []
        values = [target.password, target.bearer_token, *files, *(value for _, value in target.headers)]
        return [value for value in values if value]


def manager(target: Target, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Connections to the server, or to the proxy before it. Raises UsageError for a proxy that cannot be one."""
    parts = urlsplit(target.url)
    options: dict[str, Any] = {"maxsize": 1, "ssl_context": context, "retries": False}
    proxy = proxy_for(parts.scheme, parts.netloc)
    if proxy is None:
        return urllib3.PoolManager(**options)
    try:
        url = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
        headers = urllib3.make_headers(proxy_basic_auth=unquote(url.auth)) if url.auth else None
        return urllib3.ProxyManager(url._replace(auth=None).url, proxy_headers=headers, **options)
    except (HTTPError, ValueError):  # their texts quote the URL, which may hold a password
        raise UsageError(f"{parts.scheme}_proxy: no http or https URL: write http://host:3128") from None


def _base64(data: bytes) -> str:
    from binascii import b2a_base64

    return b2a_base64(data, newline=False).decode()


def _secret_file(path: str | None) -> str | None:
    return Path(path).read_text().strip() if path else None


def _check_secret_files(target: Target) -> None:
    """Raises UsageError for files that cannot be read at the start. Later they are read again for each request."""
    for name, path in (("PASSWORD_FILE", target.password_file), ("BEARER_TOKEN_FILE", target.bearer_token_file)):
        try:
            secret = _secret_file(path)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no text"
            raise UsageError(f"{PREFIX}{name} {path}: {why}: give a file that holds it alone") from None
        if secret == "":
            raise UsageError(f"{PREFIX}{name} {path}: is empty: give a file that holds it alone")


def tls_context(target: Target) -> ssl.SSLContext:
    """Verification as asked for. Raises UsageError for files that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{PREFIX}CA_FILE {target.ca_file}: {_why(error)}: give a file of PEM certificates") from None
    if target.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if target.cert_file and target.key_file:
        try:
            # without the password callback a key that needs one would be asked for on the terminal
            context.load_cert_chain(target.cert_file, target.key_file, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            files = f"{PREFIX}CERT_FILE {target.cert_file}, {PREFIX}KEY_FILE {target.key_file}"
            raise UsageError(f"{files}: {_why(error)}: give PEM files that belong together") from None
    return context


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)


def proxy_for(scheme: str, netloc: str) -> str | None:
    """The proxy that http_proxy, https_proxy and no_proxy name for a server."""
    proxies = getproxies_environment()
    if proxy_bypass_environment(netloc, proxies):
        return None
    return proxies.get(scheme)


def export_url(url: str, probe: Probe) -> str | None:
    """Where a server that takes `url` shows one sample; None where that does not follow from the path."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith(IMPORT_PATH):
        return None
    query = urlencode({"match[]": probe.selector, "start": probe.at_ms / 1000, "end": probe.at_ms / 1000})
    return urlunsplit(parts._replace(path=path.removesuffix(IMPORT_PATH) + EXPORT_PATH, query=query))


def some_of(response: urllib3.BaseHTTPResponse) -> bytes:
    """The start of a body, as far as it comes at once; the connection is not used again."""
    try:
        return response.read1(MOST_READ) or b""
    finally:
        response.close()


def retry_after(text: str | None) -> float | None:
    """Seconds, from a number or an HTTP date (RFC 9110 10.2.3); None where there is none, or nonsense."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def reason(error: BaseException) -> str:
    """Why no answer came, in few words and without the URL, which urllib3's own texts repeat."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "the host's name is not known (DNS)"
    # of connections refused urllib3 says, too, that they timed out
    if type(error) is urllib3.exceptions.ConnectTimeoutError:
        return f"no connection within {CONNECT_S:.0f} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return f"no answer within {ANSWER_S:.0f} s"
    if isinstance(error, urllib3.exceptions.ProxyError):
        return f"by the proxy: {reason(error.original_error)}"
    if isinstance(error, (ssl.SSLError, urllib3.exceptions.SSLError)):
        found = next((part for part in (error, *error.args) if isinstance(part, ssl.SSLError)), None)
        detail = getattr(found, "verify_message", None) or getattr(found, "reason", None) or "failed"
        return f"TLS: {detail}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = next((part for part in cause.args if isinstance(part, BaseException)), None) or cause.__cause__
    return "the connection ended before the answer"
