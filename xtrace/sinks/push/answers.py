"""What a server's answer to a request means, by format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from xtrace.sinks.metrics.protobuf import fields
from xtrace.sinks.push.batch import Outcome
from xtrace.target import OTLP, REMOTE_WRITE

OK = range(200, 300)
ACCESS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
"""While a token or password is being replaced."""
OTLP_RETRIED = (429, 502, 503, 504)
"""OTLP/HTTP, Retryable Response Codes: no other may be retried."""
STATUS = (b"\x08", b"\x12")
"""First bytes of an error of OTLP, and of no text"""
WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"
ANY_WRITTEN = (WRITTEN, "X-Prometheus-Remote-Write-Histograms-Written", "X-Prometheus-Remote-Write-Exemplars-Written")


@dataclass(frozen=True)
class Answer:
    """An answer."""

    status: int
    phrase: str
    """the status as text, `200 OK`"""
    headers: Mapping[str, str]
    body: bytes
    """its start; the whole of one of OTLP, unless it is very long or slow"""


def may_pass(form: str, status: int) -> bool:
    """Return whether a later attempt may not meet this error."""
    if form == OTLP:
        return status in (*OTLP_RETRIED, *ACCESS)
    return status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *ACCESS)


def written(headers: Mapping[str, str]) -> int | None:
    """Return how many samples the server says that it has written (remote write 2.0); None if it says nothing."""
    if not any(name in headers for name in ANY_WRITTEN):
        return None
    count = headers.get(WRITTEN, "0").strip()
    return int(count) if count.isdecimal() and count.isascii() else 0


def delivered(form: str, answer: Answer) -> Outcome:
    """Return the outcome of a request that the server accepted."""
    if form == REMOTE_WRITE:
        return Outcome(True, written=written(answer.headers))
    if form == OTLP:
        try:
            rejected, said = partial_success(answer.body)
        except (ValueError, AttributeError):
            return Outcome(True, doubt=f"{answer.phrase} with another body than OTLP's")
        return Outcome(True, rejected=rejected, remark=said)
    usual = answer.status == HTTPStatus.NO_CONTENT
    return Outcome(True, doubt="" if usual else f"{answer.phrase} instead of 204 No Content")


def partial_success(body: bytes) -> tuple[int, str]:
    """Return the data points that an ExportMetricsServiceResponse says were rejected, and why. Raises ValueError.

    A negative number, which the type allows, counts as 0.

    ExportMetricsServiceResponse { ExportMetricsPartialSuccess partial_success = 1; }
    ExportMetricsPartialSuccess { int64 rejected_data_points = 1; string error_message = 2; }
    """
    partial = dict(fields(body)).get(1, b"")
    if not isinstance(partial, bytes):
        raise ValueError("not a response")
    found = dict(fields(partial))
    rejected, said = found.get(1, 0), found.get(2, b"")
    if not isinstance(rejected, int) or not isinstance(said, bytes):
        raise ValueError("not a response")
    return rejected if rejected < 1 << 63 else 0, said.decode("utf-8", "replace")


def status_message(body: bytes) -> str:
    """Return the text of an error of OTLP: google.rpc.Status { int32 code = 1; string message = 2; }, or plain text."""
    try:
        said = dict(fields(body)).get(2, b"") if body.startswith(STATUS) else body
    except ValueError:
        said = body
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else ""
