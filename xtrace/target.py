"""Parse --push and VICTORIAMETRICS_* into one frozen Target, whose text contains no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from xtrace.errors import UsageError
from xtrace.values import boolean

PREFIX = "VICTORIAMETRICS_"
IMPORT_PATH = "/api/v1/import/prometheus"
DEFAULT_BASE = "http://localhost:8428"
DEFAULT_URL = DEFAULT_BASE + IMPORT_PATH
WRITE_PATH = "/api/v1/write"
WRITE_PATHS = (WRITE_PATH, "/api/v1/push", "/api/v1/receive")
"""Ends of paths for remote write: Prometheus and VictoriaMetrics; Mimir; Thanos."""
OTLP_PATH = "/v1/metrics"
OTLP_OF_PROMETHEUS = "/api/v1/otlp/v1/metrics"
OTLP_PATHS = (OTLP_OF_PROMETHEUS, "/opentelemetry/v1/metrics", "/opentelemetry/api/v1/push")
"""Ends of the paths of Prometheus and VictoriaMetrics for OTLP."""
IMPORT, REMOTE_WRITE, OTLP = "import", "remote-write", "otlp"
ENDS = {IMPORT: (IMPORT_PATH,), OTLP: (OTLP_PATH, *OTLP_PATHS), REMOTE_WRITE: WRITE_PATHS}
"""Ends of paths by the format that they take; the first is that of a URL without a path. Of two that match, the first
counts: one for OTLP ends as Mimir's for remote write."""
INFLUX_PATH = "/write"
OTHER_IMPORTS = {
    "/api/v1/import": "JSON lines",
    "/api/v1/import/csv": "CSV",
    "/api/v1/import/native": "the native format of VictoriaMetrics",
    "/api/v2/write": "the line protocol of InfluxDB",
    "/api/put": "the format of OpenTSDB",
    INFLUX_PATH: "the line protocol of InfluxDB",
}
"""Ends of paths for other formats. Some answer 204 to anything, and store nothing."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 5.6.2, token"""
_SECRET_NAME = re.compile(r"auth|cred|jwt|key|pass|pwd|secret|sess|sig|token", re.IGNORECASE)
"""Names of parameters in a URL's query whose values are secrets"""
LONGEST_SHOWN_NAME = 32
_HEADERS_WE_SET = frozenset(
    {"content-encoding", "content-length", "content-type", "host", "x-prometheus-remote-write-version"}
)


class Target(NamedTuple):
    """A server and its credentials, some of which are secrets."""

    url: str
    """without userinfo"""
    shown: str
    """the URL for messages: no userinfo, no query"""
    form: str = IMPORT
    """IMPORT, REMOTE_WRITE or OTLP"""
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    bearer_token: str | None = None
    bearer_token_file: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    skip_verify: bool = False

    def __repr__(self) -> str:
        """Return what is no secret."""
        return f"Target({self.shown!r}, {self.form!r})"

    @property
    def is_https(self) -> bool:
        """Whether the server is reached by TLS."""
        return self.url.lower().startswith("https:")


def parse_target(given: str | None, environment: Mapping[str, str], form: str = "auto") -> Target | None:
    """Return the target set by --push (`given`) or the environment; None if pushing is off.

    `form`: IMPORT, REMOTE_WRITE, OTLP, or auto, which takes it from the path. Raises UsageError.
    """
    enabled = environment.get(f"{PREFIX}ENABLED")
    wanted = bool(enabled) and boolean(enabled or "", f"{PREFIX}ENABLED")
    if given is None and not wanted:
        return None
    if given is not None:
        url, userinfo = split_url(given, "--push", form)
        _refuse_visible_secrets(url, userinfo)
    else:
        address = environment.get(f"{PREFIX}REMOTE_WRITE") or DEFAULT_BASE
        url, userinfo = split_url(address, f"{PREFIX}REMOTE_WRITE", form)

    def variable(name: str) -> str | None:
        return environment.get(PREFIX + name) or None

    target = Target(
        url=url,
        shown=url.partition("?")[0],
        form=_form(url, form),
        username=variable("USERNAME") or (userinfo[0] if userinfo else None),
        password=variable("PASSWORD") or (userinfo[1] if userinfo else None),
        password_file=variable("PASSWORD_FILE"),
        bearer_token=variable("BEARER_TOKEN"),
        bearer_token_file=variable("BEARER_TOKEN_FILE"),
        headers=parse_headers(variable("HEADERS") or ""),
        ca_file=variable("CA_FILE"),
        cert_file=variable("CERT_FILE"),
        key_file=variable("KEY_FILE"),
        skip_verify=boolean(variable("INSECURE_SKIP_VERIFY") or "false", f"{PREFIX}INSECURE_SKIP_VERIFY"),
    )
    _check(target)
    return target


def forgotten(given: str | None, environment: Mapping[str, str]) -> str | None:
    """Return a warning if a URL is set but pushing is off; else None."""
    if given is None and environment.get(f"{PREFIX}REMOTE_WRITE") and not environment.get(f"{PREFIX}ENABLED"):
        return f"{PREFIX}REMOTE_WRITE is set, but metrics are not pushed (set {PREFIX}ENABLED=true too)"
    return None


def split_url(text: str, what: str, form: str = "auto") -> tuple[str, tuple[str, str | None] | None]:
    """Split an http(s) URL into URL and userinfo (name, password). An empty path becomes that of the form."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    usual = ENDS.get(form, ENDS[IMPORT])[0]
    usage = f"(use http://host:8428{usual})"
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        # neither the URL nor the error, which quotes it: they may contain a password
        raise UsageError(f"{what}: not a valid URL {usage}") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", text.strip()):
        raise UsageError(f"{what}: not an http or https URL {usage}")
    if parts.fragment:
        raise UsageError(f"{what}: what follows # is not sent to any server; in a name or password write %23 {usage}")
    path = parts.path if parts.path.strip("/") else usual
    trimmed = re.sub("/+", "/", path).rstrip("/")
    takes_form = next((takes for takes, ends in ENDS.items() if trimmed.endswith(ends)), None)
    if takes_form:
        path = trimmed  # VictoriaMetrics does not know it with a slash
    if takes_form and form not in ("auto", takes_form):
        raise UsageError(f"{what}: {trimmed} does not take --push-format {form} {usage}")
    known = unquote(trimmed)  # as servers compare it
    is_remote_write = form == REMOTE_WRITE or known.endswith(WRITE_PATHS)
    for end, takes in OTHER_IMPORTS.items():
        if known.endswith(end) and not (end == INFLUX_PATH and is_remote_write):
            raise UsageError(f"{what}: {takes}, {trimmed}, is not supported {usage}")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    url = urlunsplit((parts.scheme, netloc, path, parts.query, ""))
    if parts.username is None:
        return url, None
    return url, (unquote(parts.username), unquote(parts.password) if parts.password is not None else None)


def _form(url: str, form: str) -> str:
    """Return the form of a target; `auto` depends on the end of the path."""
    if form != "auto":
        return form
    path = url.partition("?")[0]
    return next((takes for takes, ends in ENDS.items() if path.endswith(ends)), IMPORT)


def parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    """Parse headers as vmagent does: `Name: value`, separated by `^^`. Raises UsageError."""
    headers = []
    for header in filter(None, (part.strip() for part in text.split("^^"))):
        name, colon, value = (part.strip() for part in header.partition(":"))
        if not colon or not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            raise UsageError(f"{PREFIX}HEADERS: malformed header (use 'Name: value', several separated by ^^)")
        if name.lower() in _HEADERS_WE_SET:
            raise UsageError(f"{PREFIX}HEADERS: {name} is set by xtrace-catch itself (leave it out)")
        headers.append((name, value))
    return tuple(headers)


def _refuse_visible_secrets(url: str, userinfo: tuple[str, str | None] | None) -> None:
    """Raise UsageError for secrets in --push's URL. A user name alone counts as one: many servers take tokens there."""
    from urllib.parse import parse_qsl, urlsplit

    visible = "on the command line is visible to all users of this host"
    if userinfo is not None:
        what = "a password" if userinfo[1] else "a user name or token"
        raise UsageError(
            f"--push: {what} {visible} (set {PREFIX}USERNAME and {PREFIX}PASSWORD_FILE or {PREFIX}BEARER_TOKEN_FILE, or"
            f" put the URL in {PREFIX}REMOTE_WRITE)"
        )
    for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if _SECRET_NAME.search(name):
            shown = name if name.isprintable() and len(name) <= LONGEST_SHOWN_NAME else "a secret"
            raise UsageError(f"--push: {shown} in the URL {visible} (put the URL in {PREFIX}REMOTE_WRITE)")


def _check(target: Target) -> None:
    """Raise UsageError for contradictory settings."""
    if target.password and target.password_file:
        raise UsageError(f"{PREFIX}PASSWORD and {PREFIX}PASSWORD_FILE are both set (unset one)")
    if target.bearer_token and target.bearer_token_file:
        raise UsageError(f"{PREFIX}BEARER_TOKEN and {PREFIX}BEARER_TOKEN_FILE are both set (unset one)")
    if any(name.lower() == "authorization" for name, _ in target.headers) and (
        target.username or target.bearer_token or target.bearer_token_file
    ):
        raise UsageError(f"{PREFIX}HEADERS has Authorization, and {PREFIX}USERNAME or _BEARER_TOKEN is set (use one)")
    if target.username and (target.bearer_token or target.bearer_token_file):
        raise UsageError(f"{PREFIX}USERNAME and {PREFIX}BEARER_TOKEN[_FILE] are both set (unset one)")
    if (target.password or target.password_file) and not target.username:
        raise UsageError(f"{PREFIX}PASSWORD[_FILE] is set without {PREFIX}USERNAME (set both)")
    if bool(target.cert_file) != bool(target.key_file):
        raise UsageError(f"{PREFIX}CERT_FILE or {PREFIX}KEY_FILE is set without the other (set both)")
