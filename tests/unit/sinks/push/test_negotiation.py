"""Remote write 2.0 is sent to servers that say that they take it, 1.0 to all others; nothing is sent twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cramjam
import pytest

from tests.support.protobuf import request_2, time_series
from xtrace.sinks.metrics.remote_write import HEADERS_1, HEADERS_2, RemoteWrite
from xtrace.sinks.metrics.sample import Interval, Metric, Sample
from xtrace.sinks.push.batch import Outcome
from xtrace.sinks.push.negotiation import Negotiating

IGNORED = Outcome(True, status=204)
UNKNOWN, BAD = Outcome(False, status=415), Outcome(False, status=400)
BUSY = Outcome(False, True, "503", status=503)
SILENT = Outcome(False, True, "no answer", unanswered=True)


def wrote(samples: int) -> Outcome:
    return Outcome(True, status=204, written=samples)


class Server:
    """Answers in turn; keeps versions and the number of series."""

    shown, is_known = "http://p", True

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.got: list[tuple[int, int]] = []
        self.is_closed = False

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        unpacked = bytes(cramjam.snappy.decompress_raw(body))
        assert headers in (HEADERS_1, HEADERS_2)
        found = request_2(unpacked) if headers == HEADERS_2 else time_series(unpacked)
        self.got.append((2 if headers == HEADERS_2 else 1, len(found)))
        return self.answers.pop(0)

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        return {start_ms, end_ms, len(selector)}

    def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
        return {start_ms, end_ms, len(names)}

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def encoding() -> RemoteWrite:
    return RemoteWrite((("host", "n"),))


def request(encoding: RemoteWrite) -> tuple[bytes, Mapping[str, str]]:
    """Return a request with three series, of one sample each."""
    samples = [Sample((("x", str(n)),), {"a": n}) for n in range(3)]
    encoding.add(samples, {"a": Metric("gauge", "", "All.")}, Interval(1000, 2000))
    body = encoding.compress(encoding.body())
    return body, encoding.headers(body)


def test_server_that_counts_what_it_writes_is_asked_once_and_gets_2(encoding: RemoteWrite) -> None:
    server = Server(wrote(0), wrote(3), wrote(3))
    made = Negotiating(server, encoding)
    assert [made.send(*request(encoding)).rejected for _ in range(2)] == [0, 0]
    assert server.got == [(2, 0), (2, 3), (2, 3)]


@pytest.mark.parametrize("answer", [IGNORED, UNKNOWN, BAD], ids=["ignores", "415", "400"])
def test_other_servers_get_1_from_the_first_sample_on(answer: Outcome, encoding: RemoteWrite) -> None:
    server = Server(answer, IGNORED, IGNORED, IGNORED)
    made = Negotiating(server, encoding)
    for _ in range(3):
        assert made.send(*request(encoding)) == IGNORED
    assert server.got == [(2, 0), (1, 3), (1, 3), (1, 3)]


@pytest.mark.parametrize("failed", [BUSY, SILENT], ids=["busy", "silent"])
def test_question_without_an_answer_is_asked_again_and_no_sample_is_in_doubt(
    failed: Outcome, encoding: RemoteWrite
) -> None:
    server = Server(failed, wrote(0), wrote(3))
    made = Negotiating(server, encoding)
    body, headers = request(encoding)
    first = made.send(body, headers)
    assert (first.delivered, first.retry, first.unanswered) == (False, True, False)
    assert made.send(body, headers).delivered
    assert server.got == [(2, 0), (2, 0), (2, 3)]


@pytest.mark.parametrize("older", [IGNORED, UNKNOWN], ids=["ignores", "415"])
def test_older_server_in_the_place_of_a_newer_one_gets_1(older: Outcome, encoding: RemoteWrite) -> None:
    server = Server(wrote(0), wrote(3), older, IGNORED, IGNORED)
    made = Negotiating(server, encoding)
    assert [made.send(*request(encoding)).delivered for _ in range(3)] == [True, True, True]
    assert server.got == [(2, 0), (2, 3), (2, 3), (1, 3), (1, 3)]


def test_older_server_that_answers_400_gets_1(encoding: RemoteWrite) -> None:
    server = Server(wrote(0), BAD, BAD, IGNORED, IGNORED)
    made = Negotiating(server, encoding)
    assert [made.send(*request(encoding)).delivered for _ in range(2)] == [True, True]
    assert server.got == [(2, 0), (2, 3), (2, 0), (1, 3), (1, 3)]


def test_server_that_does_not_answer_after_a_400_is_asked_again(encoding: RemoteWrite) -> None:
    server = Server(wrote(0), BAD, SILENT, BAD, IGNORED)
    made = Negotiating(server, encoding)
    body, headers = request(encoding)
    first = made.send(body, headers)
    assert (first.delivered, first.retry, first.unanswered) == (False, True, False)
    assert made.send(body, headers).delivered
    assert server.got == [(2, 0), (2, 3), (2, 0), (2, 0), (1, 3)]


@pytest.mark.parametrize("new", range(5))
def test_connection_that_had_ended_is_told_whichever_request_found_out(new: int, encoding: RemoteWrite) -> None:
    """Only then is it asked whether the server has lost what it acknowledged."""
    answers = [wrote(0), wrote(3), wrote(3), UNKNOWN, IGNORED]
    server = Server(*answers[:new], replace(answers[new], reconnected=True), *answers[new + 1 :])
    made = Negotiating(server, encoding)
    found = [made.send(*request(encoding)).reconnected for _ in range(3)]
    assert found == [new < 2, new == 2, new > 2]


def test_rejection_and_failures_of_a_newer_server_are_no_reason_for_1(encoding: RemoteWrite) -> None:
    rejecting = Outcome(False, status=400, written=1)
    server = Server(wrote(0), rejecting, BUSY, BAD, wrote(0), wrote(2))
    made = Negotiating(server, encoding)
    found = [made.send(*request(encoding)) for _ in range(4)]
    assert [(each.delivered, each.retry, each.rejected) for each in found] == [
        (False, False, 2),
        (False, True, 0),
        (False, False, 0),
        (True, False, 1),
    ]
    assert server.got == [(2, 0), (2, 3), (2, 3), (2, 3), (2, 0), (2, 3)]


def test_request_of_1_from_an_earlier_run_is_sent_as_it_is(encoding: RemoteWrite) -> None:
    encoding.fall_back()
    request(encoding)
    server = Server(IGNORED)
    assert Negotiating(server, encoding).send(*request(encoding)) == IGNORED
    assert server.got == [(1, 3)]


def test_the_rest_is_the_transports(encoding: RemoteWrite) -> None:
    server = Server()
    made = Negotiating(server, encoding)
    assert (made.shown, made.times("ab", 5, 6)) == ("http://p", {5, 6, 2})
    assert made.samples("ab", 5, 6, frozenset("xyz")) == {5, 6, 3}
    made.close()
    assert server.is_closed
