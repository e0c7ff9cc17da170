"""OTLP: what a receiver decodes, and what real servers store, are exactly the JSON Lines."""

from __future__ import annotations

import json
import time

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from tests.netns.tool import eventually, total
from tests.push.compare import assert_each_series_is_its_flow, assert_server_has_all, last
from tests.push.double import Answer, Request, double
from tests.push.otlp import CONTENT, PATH, ByOtlp, Received, receiving
from tests.push.test_outages import said_of_push
from tests.push.wire import wire

AS_JSON = ("-o", "json", "-t", "500ms")
ACCEPTED = Answer(200, headers=CONTENT)


def partial(rejected: int, said: str) -> Answer:
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = rejected
    response.partial_success.error_message = said
    return Answer(200, response.SerializeToString(), CONTENT)


def test_what_a_receiver_decodes_is_exactly_the_json_lines() -> None:
    with double(lambda _: ACCEPTED) as server, wire() as wired, wired.traffic():
        with wired.watching(*AS_JSON, "--push", server.base + "/v1/metrics", "--label", "rack=r1") as tool:
            tool.wait_for_intervals(6)
            result = tool.stop()
        posts = [request for request in server.requests if request.body]
    assert (result.code, said_of_push(result)) == (0, [])
    received = Received(request.body for request in posts)
    assert_server_has_all(received, result.records)
    assert_each_series_is_its_flow(received, result.records)
    assert last(received, "xtrace_interface_packets_total") == total(result.records) > 0
    assert (posts[0].headers["Content-Type"], posts[0].headers["Content-Encoding"]) == (CONTENT["Content-Type"], "gzip")
    resource = received.resource()
    host = result.records[0]["host"]
    assert resource["service.name"] == "xtrace-catch"
    assert resource["service.instance.id"] == resource["host.name"] == host
    for labels, samples in received.export("xtrace_network_bytes_total").items():
        assert ("rack", "r1") in labels
        assert received.ends["xtrace_network_bytes_total"][labels] > samples[-1][0] * 1_000_000, "each series ends"


def test_raw_samples_in_victoria_metrics_are_exactly_the_json_lines() -> None:
    with receiving() as server, wire() as wired, wired.traffic():
        with wired.watching(*AS_JSON, "--push", server.base + PATH) as tool:
            tool.wait_for_intervals(8)
            result = tool.stop()
        stored = ByOtlp(server)
        assert (result.code, said_of_push(result)) == (0, [])
        assert_server_has_all(stored, result.records)
        assert_each_series_is_its_flow(stored, result.records)
        assert last(stored, "xtrace_interface_packets_total") == total(result.records) > 0
        fields = {"match[]": '{__name__=~"xtrace.*"}', "end": str(time.time() + 3600)}
        lines = server.get("/api/v1/export", **fields).splitlines()
    assert lines and all(json.loads(line)["values"][-1] is None for line in lines), "a stale marker ends each"


def test_only_what_may_be_retried_is_and_what_was_rejected_in_part_is_told() -> None:
    answers = {
        **dict(enumerate((Answer(429, headers={"Retry-After": "0"}), Answer(502), Answer(503), Answer(504), ACCEPTED))),
        5: Answer(500, b"\x12\x04full", CONTENT),
        6: partial(3, "too old"),
    }
    posts: list[Request] = []

    def answer(number: int) -> Answer:
        request = server.requests[number]
        if not request.body:  # whether it has stored what it gave no answer to
            return Answer(404)
        posts.append(request)
        return answers.get(len(posts) - 1, ACCEPTED)

    with (
        double(answer) as server,
        wire() as wired,
        wired.watching(*AS_JSON, "--push", server.base + "/v1/metrics") as tool,
    ):
        eventually(lambda: len(posts) >= 8)
        result = tool.stop()
    requests = posts[:8]
    assert result.code == 1
    assert len({request.body for request in requests[:5]}) == 1
    assert len({request.body for request in requests[4:]}) == 4
    said = said_of_push(result)
    assert any("rejected and dropped: 500 Internal Server Error: full" in line for line in said)
    assert any(line.endswith("accepted, but for 3 samples: too old") for line in said)
    assert " samples of 2 intervals: rejected by the server" in said[-1]
