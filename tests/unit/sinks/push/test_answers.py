"""What answers mean in each format."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from xtrace.sinks.push.answers import Answer, delivered, may_pass, partial_success, status_message, written
from xtrace.target import IMPORT, OTLP, REMOTE_WRITE

TEMPORARY = {
    IMPORT: {401, 403, 407, 408, 429, 500, 501, 502, 503, 504},
    REMOTE_WRITE: {401, 403, 407, 408, 429, 500, 501, 502, 503, 504},
    OTLP: {401, 403, 407, 429, 502, 503, 504},
}
ANSWERS = (300, 301, 400, 401, 403, 404, 405, 407, 408, 413, 415, 422, 429, 500, 501, 502, 503, 504)


@pytest.mark.parametrize("form", TEMPORARY)
def test_what_is_sent_again(form: str) -> None:
    assert {status for status in ANSWERS if may_pass(form, status)} == TEMPORARY[form]


@pytest.mark.parametrize(
    "headers, count",
    [
        ({}, None),
        ({"X-Other": "5"}, None),
        ({"X-Prometheus-Remote-Write-Samples-Written": " 12 "}, 12),
        ({"X-Prometheus-Remote-Write-Samples-Written": "-1"}, 0),
        ({"X-Prometheus-Remote-Write-Samples-Written": "many"}, 0),
        ({"X-Prometheus-Remote-Write-Exemplars-Written": "3"}, 0),
    ],
)
def test_what_a_server_says_it_has_written(headers: dict[str, str], count: int | None) -> None:
    assert written(headers) == count


def otlp(body: bytes) -> Answer:
    return Answer(200, "200 OK", {}, body)


def test_rejected_points_and_remarks_of_otlp() -> None:
    response = ExportMetricsServiceResponse()
    assert delivered(OTLP, otlp(response.SerializeToString())).rejected == 0
    response.partial_success.error_message = "deprecated"
    outcome = delivered(OTLP, otlp(response.SerializeToString()))
    assert (outcome.delivered, outcome.rejected, outcome.remark) == (True, 0, "deprecated")
    response.partial_success.rejected_data_points = 300
    assert delivered(OTLP, otlp(response.SerializeToString())).rejected == 300
    response.partial_success.rejected_data_points = -1
    assert delivered(OTLP, otlp(response.SerializeToString())).rejected == 0


@pytest.mark.parametrize("body", [b"<html>", b"OK", b"\x0a\x05ab", b"\x08\x01"])
def test_answer_that_is_none_of_otlp_is_doubtful(body: bytes) -> None:
    outcome = delivered(OTLP, otlp(body))
    assert (outcome.delivered, outcome.doubt) == (True, "200 OK with another body than OTLP's")


@pytest.mark.parametrize(
    "body, said", [(b"\x08\x03\x12\x04full", "full"), (b"", ""), (b"plain words", "plain words"), (b"\x08\x05", "")]
)
def test_text_of_an_error_of_otlp(body: bytes, said: str) -> None:
    assert status_message(body) == said


def test_words_that_are_no_text_are_shown_as_far_as_they_are() -> None:
    assert partial_success(b"\x0a\x04\x12\x02a\xff") == (0, "a\ufffd")
    assert status_message(b"\x12\x02a\xff") == "a\ufffd"
    assert status_message(b"a\xff") == "a\ufffd"
