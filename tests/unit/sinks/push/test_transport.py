"""What answers mean, and that their texts show no secret."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from urllib3 import exceptions as errors

from tests.push.double import Answer, Double, double
from xtrace.sinks.metrics.pieces import identity
from xtrace.sinks.push import transport
from xtrace.sinks.push.batch import Outcome
from xtrace.sinks.push.transport import Http, reason
from xtrace.target import OTLP, Target, parse_target

SECRET = "s3cr3t+Value/7"
HEADERS = {"Content-Type": "text/plain"}
ECHOED = ("authorization", "proxy-authorization", "x-key")


def send(server: Double, **settings: Any) -> Outcome:
    http = Http(Target(server.base + "/x", server.base + "/x")._replace(**settings), "1")
    try:
        return http.send(b"up 1\n", HEADERS)
    finally:
        http.close()


def test_no_content_is_delivered() -> None:
    with double(lambda _: Answer()) as server:
        assert send(server) == Outcome(True, reconnected=True, status=204)


@pytest.mark.parametrize("body", [b"", b"OK", b"x" * 10_000])
def test_other_success_is_delivered_but_doubtful(body: bytes) -> None:
    with double(lambda _: Answer(200, body)) as server:
        outcome = send(server)
    assert (outcome.delivered, outcome.doubt) == (True, "200 OK instead of 204 No Content")


def test_what_otlp_rejected_is_read_however_the_answer_comes() -> None:
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 3
    response.partial_success.error_message = "late" * 3000
    said = response.SerializeToString()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (said[:5], said[5:], b""))
    answers = [Answer(200, said), Answer(200, chunked, {"Transfer-Encoding": "chunked"}), Answer(204)]
    with double(answers.__getitem__) as server:
        http = Http(Target(server.base + "/x", "", OTLP), "1")
        found = [http.send(b"", HEADERS) for _ in answers]
        http.close()
    assert [(each.rejected, each.remark[:5], each.doubt) for each in found] == [(3, "latel", "")] * 2 + [(0, "", "")]
    assert [each.reconnected for each in found] == [True, False, False], "answers are read to their end"


def test_answer_of_otlp_that_is_cut_short_is_doubtful() -> None:
    with double(lambda _: Answer(200, b"\x0a\x09\x08", {"Content-Length": "11", "Connection": "close"})) as server:
        outcome = send(server, form=OTLP)
    assert (outcome.delivered, outcome.doubt) == (True, "200 OK with another body than OTLP's")


def test_only_a_connection_that_the_server_closed_counts_as_new() -> None:
    def answer(number: int) -> Answer:
        # 1: kept; 3: closed by the server; 5: too long to be read, closed by the client
        return {3: Answer(headers={"Connection": "close"}), 5: Answer(200, b"x" * 100_000)}.get(number, Answer())

    with double(answer) as server:
        http = Http(Target(server.base + "/x", ""), "1")
        found = [http.send(b"", HEADERS).reconnected for _ in range(8)]
        http.close()
    assert found == [True, False, False, False, True, False, False, False]


def test_connection_that_the_server_closed_after_a_refused_query_counts_as_new() -> None:
    def answer(number: int) -> Answer:
        return Answer(503, b"busy", headers={"Connection": "close"}) if number == 1 else Answer()

    with double(answer) as server:
        http = Http(Target(server.base + "/api/v1/import/prometheus", ""), "1")
        http.send(b"", HEADERS)
        assert http.times("up", 1000, 2000) is None
        assert http.send(b"", HEADERS).reconnected
        http.close()


@pytest.mark.parametrize(
    "answer, expected",
    [
        (Answer(200, b'{"metric":{},"values":[1],"timestamps":[1500]}\n'), {1500}),
        (Answer(200), set()),
        (Answer(404, b"no such path"), None),
        (Answer(200, b"OK"), None),
        (Answer(200, b'{"metric":{},"values":[1],"timestamps":[1]}\n' * 50_000), None),
    ],
)
def test_stored_samples_are_read_by_export(answer: Answer, expected: set[int] | None) -> None:
    with double(lambda _: answer) as server:
        http = Http(Target(server.base + "/api/v1/import/prometheus", ""), "1")
        assert http.times("up", 1000, 2000) == expected
        http.close()
        assert server.requests[0].target == "/api/v1/export?match%5B%5D=up&start=1.0&end=2.0"


def test_export_gives_the_identities_of_all_samples_by_the_labels_that_were_sent() -> None:
    lines = (
        b'{"metric":{"__name__":"a","x":"1","added":"2"},"values":[1,null],"timestamps":[5,6]}\n'
        b'{"metric":{"__name__":"b"},"values":[1],"timestamps":[5]}\n'
    )
    names = frozenset({"__name__", "x"})
    with double([Answer(200, lines), Answer(200, b"[]"), Answer(404)].__getitem__) as server:
        http = Http(Target(server.base + "/api/v1/import/prometheus?extra_label=added=2", ""), "1")
        found = http.samples('{x="1"}', 5, 6, names)
        assert http.samples("a", 5, 6, names) is None
        assert http.samples("a", 5, 6, names) is None
        http.close()
    assert found == {
        identity((("__name__", "a"), ("x", "1")), 5),
        identity((("__name__", "a"), ("x", "1")), 6),
        identity((("__name__", "b"),), 5),
    }
    assert server.requests[0].target.startswith("/api/v1/export?extra_label=added=2&match%5B%5D=")


def test_unreachable_server_shows_no_samples() -> None:
    http = Http(Target("http://127.0.0.1:9/api/v1/import/prometheus", ""), "1")
    assert http.samples("a", 5, 6, frozenset()) is None


@pytest.mark.parametrize("status, unanswered", [(502, True), (504, True), (503, False), (500, False)])
def test_answer_of_a_proxy_that_got_none_is_none(status: int, unanswered: bool) -> None:
    with double(lambda _: Answer(status)) as server:
        outcome = send(server)
    assert (outcome.retry, outcome.unanswered) == (True, unanswered)


def test_connection_that_ends_as_announced_does_not_end_abruptly() -> None:
    with double(lambda n: Answer(headers={"Connection": "close"} if n == 1 else {})) as server:
        http = Http(Target(server.base + "/x", ""), "1")
        found = [http.send(b"", HEADERS) for _ in range(4)]
        http.close()
    assert [(each.reconnected, each.abruptly) for each in found] == [
        (True, False),
        (False, False),
        (True, False),
        (False, False),
    ]


def test_export_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WHOLE_ANSWER_S", -1.0)
    with double(lambda _: Answer(200, b'{"metric":{"__name__":"a"},"values":[1],"timestamps":[5]}\n')) as server:
        http = Http(Target(server.base + "/api/v1/import/prometheus", ""), "1")
        assert http.samples("a", 5, 6, frozenset(("__name__",))) is None
        assert http.times("a", 5, 6) is None
        http.close()


@pytest.mark.parametrize("said, announced", [("close", True), ("TE, Close", True), ("keep-alive", False)])
def test_end_is_announced_among_other_options(said: str, announced: bool) -> None:
    with double(lambda _: Answer(headers={"Connection": said})) as server:
        http = Http(Target(server.base + "/x", ""), "1")
        http.send(b"", HEADERS)
        http.close()
    assert http._is_announced is announced


def test_connection_that_a_query_finds_ended_counts_as_new_and_as_abruptly_ended() -> None:
    with double(lambda _: Answer()) as server:
        http = Http(Target(server.base + "/api/v1/import/prometheus", ""), "1")
        http.send(b"", HEADERS)
        pool = http._manager.connection_from_url(server.base).pool
        assert pool is not None
        (connection,) = filter(None, pool.queue)
        connection.close()
        assert http.times("a", 1, 1) is None
        found = http.send(b"", HEADERS)
        http.close()
    assert (found.reconnected, found.abruptly) == (True, True)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_redirect_is_not_delivered_and_not_followed(status: int) -> None:
    with double(lambda n: Answer(status, headers={"Location": "/other"}) if n == 0 else Answer()) as server:
        outcome = send(server)
        assert len(server.requests) == 1
    assert (outcome.delivered, outcome.retry) == (False, False)
    assert "redirects are not followed" in outcome.reason


@pytest.mark.parametrize("status", [401, 403, 407, 408, 429, 500, 502, 503, 504, 507])
def test_failure_that_may_pass_is_retried(status: int) -> None:
    with double(lambda _: Answer(status, headers={"Retry-After": "7"})) as server:
        outcome = send(server)
    assert (outcome.delivered, outcome.retry, outcome.retry_after_s) == (False, True, 7.0)


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422])
def test_rejection_is_neither_delivered_nor_retried(status: int) -> None:
    with double(lambda _: Answer(status, b"no\n")) as server:
        outcome = send(server)
    assert (outcome.delivered, outcome.retry) == (False, False)
    assert outcome.reason.startswith(f"{status} ") and ": no" in outcome.reason


def echo(number: int) -> Answer:
    """Reject, repeating everything that was sent in reason phrase and body."""
    request = server_of_test[0].requests[number]
    headers = [f"{name}: {value}" for name, value in request.headers.items() if name.lower() in ECHOED]
    sent = " ".join((request.target, *headers))
    return Answer(400, sent.encode(), reason=f"no such user {sent}")


server_of_test: list[Double] = []


@pytest.fixture
def echoing() -> Iterator[Double]:
    with double(echo) as server:
        server_of_test[:] = [server]
        yield server


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "monitor", "password": SECRET},
        {"username": SECRET},
        {"bearer_token": SECRET},
        {"headers": (("X-Key", SECRET),)},
        {"headers": (("Authorization", f"Bearer {SECRET}"),)},
        {"headers": (("Authorization", "Basic " + b64encode(f"monitor:{SECRET}".encode()).decode()),)},
    ],
)
def test_server_that_repeats_its_request_shows_no_secret(echoing: Double, settings: dict[str, Any]) -> None:
    assert_masked(send(echoing, **settings).reason)


def assert_masked(reason: str) -> None:
    assert reason.count("***") >= 2, "in the reason phrase and in the body"
    for form in (SECRET, "s3cr3t", b64encode(f"monitor:{SECRET}".encode()).decode().rstrip("=")):
        assert form not in reason


def test_secret_of_the_url_is_masked(echoing: Double) -> None:
    variables = {
        "VICTORIAMETRICS_ENABLED": "true",
        "VICTORIAMETRICS_REMOTE_WRITE": f"{echoing.base}/x?authKey={SECRET}&extra_label=a%3Db",
    }
    target = parse_target(None, variables)
    assert target is not None
    http = Http(target, "1")
    assert_masked(http.send(b"", HEADERS).reason)
    http.close()


def test_secret_of_a_file_is_masked_after_it_changed(echoing: Double, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    http = Http(Target(echoing.base + "/x", "", bearer_token_file=str(file)), "1")
    http.send(b"", HEADERS)
    file.write_text("another-secret")
    reason = http.send(b"", HEADERS).reason
    http.close()
    assert "another-secret" not in reason
    assert SECRET not in http._secrets.mask(f"old token {SECRET}")


def test_secret_of_a_proxy_is_masked(echoing: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", echoing.base.replace("://", "://monitor:s3cr3t%2BValue%2F7@"))
    monkeypatch.delenv("no_proxy", raising=False)
    http = Http(Target("http://metrics.invalid/x", ""), "1")
    reason = http.send(b"", HEADERS).reason
    http.close()
    assert echoing.requests[0].headers["Proxy-Authorization"].startswith("Basic ")
    assert_masked(reason)


def certificate_error(text: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] long text")
    error.verify_message = text
    return error


POOL: Any = None
NO_HTTP = "the answer is not valid HTTP (another protocol's port, or one for https?)"


@pytest.mark.parametrize(
    "error, text",
    [
        (errors.NameResolutionError("m", POOL, socket.gaierror(-2, "x")), "unknown host (DNS)"),
        (errors.ConnectTimeoutError(POOL, "http://secret/"), "no connection within 5 s"),
        (errors.ReadTimeoutError(POOL, "http://secret/", "x"), "no answer within 10 s"),
        (errors.NewConnectionError(POOL, "http://secret/"), "connection closed before the answer"),
        (errors.ProxyError("x", ConnectionRefusedError(111, "Connection refused")), "proxy: Connection refused"),
        (errors.ProxyError("x", errors.ConnectTimeoutError(POOL, "x")), "proxy: no connection within 5 s"),
        (errors.SSLError(certificate_error("self-signed certificate")), "TLS: self-signed certificate"),
        (errors.SSLError("no more"), "TLS: failed"),
        (
            errors.ProtocolError("aborted", ConnectionResetError(104, "Connection reset by peer")),
            "Connection reset by peer",
        ),
        (OSError(113, "No route to host"), "No route to host"),
        (errors.ProtocolError("aborted"), "connection closed before the answer"),
        (
            errors.ProtocolError("aborted", RemoteDisconnected("Remote end closed connection without response")),
            "connection closed before the answer",
        ),
        (errors.ProtocolError("aborted", BadStatusLine("\x15\x03\x03\0\2\2(")), NO_HTTP),
        (errors.ProtocolError("aborted", LineTooLong("header line")), NO_HTTP),
        (errors.ProtocolError("aborted", HTTPException("got more than 100 headers")), NO_HTTP),
        (errors.ProtocolError("broken", errors.IncompleteRead(5, 7)), "connection closed before the end of the answer"),
        (errors.ProtocolError("broken", IncompleteRead(b"cut", 7)), "connection closed before the end of the answer"),
    ],
)
def test_reason_of_a_failure_is_short_and_without_the_url(error: Exception, text: str) -> None:
    assert reason(error) == text


def test_reason_of_a_broken_handshake_is_openssls() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1007)")
    error.reason = "WRONG_VERSION_NUMBER"
    assert reason(errors.SSLError(error)) == "TLS: WRONG_VERSION_NUMBER"


def test_characters_that_http_does_not_allow_are_no_delivery() -> None:
    with double(lambda _: Answer()) as server:
        outcome = send(server, bearer_token="a\nb")
        assert not server.requests
    assert (outcome.delivered, outcome.retry) == (False, True)
    assert outcome.reason == "user name, token or headers contain characters that HTTP does not allow"


@pytest.mark.parametrize(
    "answer, expected",
    [
        ({"data": {"result": [{"values": [[1.5, "3"], [2, "4"]]}, {"values": [[7.0005, "1"]]}]}}, {1500, 2000, 7000}),
        ({"data": {"result": []}}, set()),
        ({"data": {}}, None),
        ({"data": {"result": [{"value": [1, "3"]}]}}, None),
        ({"data": {"result": [{"values": [[1]]}]}}, None),
        ([], None),
    ],
)
def test_times_come_from_an_answer_of_prometheus_only(answer: Any, expected: set[int] | None) -> None:
    assert transport.queried_times(orjson.dumps(answer)) == expected
    assert transport.queried_times(b"<html>") is None


def test_prometheus_is_asked_for_the_samples_of_the_range_and_of_a_second_before() -> None:
    """A range selector leaves out its beginning; only paths of Prometheus are asked so."""
    url = "http://p:9090/api/v1/write?x=1"
    (asked,) = transport.query_urls(url, 'up{a="b"}\nother', 10_000, 12_345)
    parts = urlsplit(asked)
    assert (parts.netloc, parts.path) == ("p:9090", "/api/v1/query")
    assert dict(parse_qsl(parts.query)) == {"x": "1", "query": 'up{a="b"}[4s]', "time": "12.346"}
    assert transport.query_urls("http://v/api/v1/import/prometheus", "up", 1, 2) == []


@pytest.mark.parametrize(
    "error, never",
    [
        (errors.ConnectTimeoutError(), True),
        (errors.NewConnectionError(None, ""), True),  # type: ignore[arg-type]
        (errors.ProxyError("", OSError()), True),
        (errors.SSLError(), True),
        (ssl.SSLError(), True),
        (errors.ReadTimeoutError(None, "", ""), False),  # type: ignore[arg-type]
        (errors.ProtocolError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_a_request_without_a_connection_was_never_sent(error: Exception, never: bool) -> None:
    assert transport.never_sent(error) is never


class Read:
    """An answer that was read so far."""

    def __init__(self, status: int, length_remaining: int | None, closed: bool) -> None:
        self.status, self.length_remaining, self.closed = status, length_remaining, closed
        self.headers = {"Content-Length": "5"}
        self.done: list[str] = []

    def drain_conn(self) -> None:
        self.done.append("drained")

    def close(self) -> None:
        self.done.append("closed")


@pytest.mark.parametrize(
    "status, left, closed, done",
    [
        (200, 0, False, "drained"),
        (200, 5, False, "closed"),  # what is left may be long, or never come
        (200, None, False, "closed"),
        (200, None, True, "drained"),
        (204, None, False, "drained"),  # it has no body
        (404, 5, False, "closed"),
    ],
)
def test_connection_is_used_again_where_the_answer_was_read_to_its_end(
    status: int, left: int | None, closed: bool, done: str
) -> None:
    http = Http(Target("http://m/x", ""), "1")
    http._is_closed = False
    answer = Read(status, left, closed)
    http._finish(cast("Any", answer))
    assert (answer.done, http._is_closed) == ([done], done == "closed")
    http.close()


def test_a_request_without_an_answer_is_not_repeated_unasked() -> None:
    """The queue decides when: it first looks for what the server may have stored."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                taken.append(peer)
                peer.recv(1 << 16)
                peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            where = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
            http = Http(Target(where, where), "1")
            outcome = http.send(b"up 1\n", HEADERS)
            http.close()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert (outcome.delivered, outcome.retry, outcome.unanswered) == (False, True, True)
    assert len(taken) == 1


def test_a_server_that_is_away_was_sent_nothing_and_is_asked_once() -> None:
    with socket.socket() as bound:  # nobody listens there
        bound.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{bound.getsockname()[1]}/api/v1/import/prometheus"
        http = Http(Target(where, where), "1")
        outcome = http.send(b"up 1\n", HEADERS)
        assert http.times("up", 1, 2) is None
        http.close()
    assert (outcome.delivered, outcome.retry, outcome.unanswered) == (False, True, False)
    assert "refused" in outcome.reason.lower()
