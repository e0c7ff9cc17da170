"""Remote write to real servers: raw samples are exactly the JSON Lines; outages, restarts, ends of series."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cramjam
import pytest

from tests.netns.tool import total
from tests.push.compare import assert_each_series_is_its_flow, assert_server_has_all, last
from tests.push.double import Answer, Request, double
from tests.push.scrapers import Prometheus, prometheus_server
from tests.push.server import Server, victoria_metrics
from tests.push.test_outages import OUTAGE, said_of_push
from tests.push.wire import wire
from tests.support.protobuf import request_2

AS_JSON = ("-o", "json", "-t", "500ms")
WRITE = "/api/v1/write"
PROTOBUF, V2 = "application/x-protobuf", "io.prometheus.write.v2.Request"
WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"
NAMES = ("prometheus", "prometheus by 2.0", "victoria-metrics")
ACCEPTED = "--web.remote-write-receiver.accepted-protobuf-messages"


def unpacked(request: Request) -> bytes:
    return bytes(cramjam.snappy.decompress_raw(request.body))


@contextmanager
def receiving(name: str) -> Iterator[Prometheus | Server]:
    if name.startswith("prometheus"):
        newer = [f"{ACCEPTED}=io.prometheus.write.v2.Request"] if name.endswith("2.0") else []
        if newer and ACCEPTED not in subprocess.run(["prometheus", "--help"], capture_output=True, text=True).stdout:
            pytest.xfail("Prometheus does not receive remote write 2.0 before 2.54")
        with prometheus_server("--web.enable-remote-write-receiver", *newer) as server:
            yield server
    else:
        with victoria_metrics() as other:
            yield other


@pytest.mark.parametrize("series", ["1000", "40"])
@pytest.mark.parametrize("name", NAMES)
def test_raw_samples_are_exactly_the_json_lines(name: str, series: str) -> None:
    with receiving(name) as server, wire() as wired, wired.traffic():
        with wired.watching(*AS_JSON, "--push", server.base + WRITE, "--max-series", series) as tool:
            tool.wait_for_intervals(8)
            result = tool.stop()
        assert (result.code, said_of_push(result)) == (0, [])
        assert_server_has_all(server, result.records)
        assert_each_series_is_its_flow(server, result.records)
        assert last(server, "xtrace_interface_packets_total") == total(result.records) > 0
        if isinstance(server, Prometheus):
            assert server.log() == "", "nothing out of order, nothing twice"


def test_series_are_gone_at_once_when_the_run_ends() -> None:
    with receiving("prometheus") as server, wire() as wired, wired.traffic(20):
        with wired.watching(*AS_JSON, "--push", server.base + WRITE) as tool:
            tool.wait_for_intervals(4)
            assert tool.stop().code == 0
        every = '{__name__=~"xtrace_.*"}'
        ends = [samples[-1][0] for samples in server.export(every).values()]
        last_ms = max(ends)
        (before,) = server.query(f"count({every})", last_ms)
        assert int(before["value"][1]) == ends.count(last_ms) > 0, "flows that paused have ended before"
        assert server.query(f"count({every})", last_ms + 1) == [], "a stale marker ends each"


def test_victoria_metrics_stores_the_markers_too() -> None:
    with victoria_metrics() as server, wire() as wired, wired.traffic(20):
        with wired.watching(*AS_JSON, "--push", server.base + WRITE) as tool:
            tool.wait_for_intervals(4)
            assert tool.stop().code == 0
        server.flush()
        fields = {"match[]": '{__name__=~"xtrace_.*"}', "end": str(time.time() + 3600)}
        lines = server.get("/api/v1/export", **fields).splitlines()
    assert lines and all(json.loads(line)["values"][-1] is None for line in lines)


def test_through_a_kill_of_prometheus_nothing_is_lost() -> None:
    with receiving("prometheus") as server, wire() as wired, wired.traffic():
        assert isinstance(server, Prometheus)
        with wired.watching(*AS_JSON, "--push", server.base + WRITE) as tool:
            tool.wait_for_intervals(OUTAGE)
            server.kill()
            tool.wait_for_intervals(OUTAGE)
            server.start()
            tool.wait_until_it_says(b"delivering again after")
            tool.wait_for_intervals(2)
            result = tool.stop()
        assert result.code == 0, result.said
        assert_server_has_all(server, result.records)


def test_request_that_was_stored_without_an_answer_is_not_sent_again() -> None:
    """Prometheus would refuse it: its first samples are older than its last."""
    with receiving("prometheus") as server:
        assert isinstance(server, Prometheus)

        def answer(number: int) -> Answer | None:
            return None if number != 2 else Answer(is_lost=True)

        with double(answer, server.base) as between, wire() as wired, wired.traffic():
            with wired.watching(*AS_JSON, "--push", between.base + WRITE) as tool:
                tool.wait_until_it_says(b"delivering again after")
                result = tool.stop()
            assert_server_has_all(server, result.records)
        assert result.code == 0, result.said


def test_rejected_samples_are_dropped_and_counted_and_busy_servers_asked_again() -> None:
    answers = {2: Answer(400, b"out of order sample\n"), 3: Answer(429), 4: Answer(500), 5: Answer(204)}
    with (
        double(lambda n: answers.get(n, Answer(200))) as server,
        wire() as wired,
        wired.watching(*AS_JSON, "--push", server.base + WRITE) as tool,
    ):
        requests = [server.wait_for(number) for number in range(7)]
        result = tool.stop()
    assert result.code == 1
    assert requests[3].body == requests[4].body == requests[5].body != requests[2].body
    assert request_2(unpacked(requests[0])) == [], "nothing that could be stored twice"
    newer, *older = [request.headers for request in requests]
    assert (newer["Content-Type"], newer["X-Prometheus-Remote-Write-Version"]) == (f"{PROTOBUF};proto={V2}", "2.0.0")
    for headers in older:
        assert (headers["Content-Type"], headers["X-Prometheus-Remote-Write-Version"]) == (PROTOBUF, "0.1.0")
        assert headers["Content-Encoding"] == "snappy"
        assert headers["User-Agent"].startswith("xtrace-catch/")
    assert said_of_push(result)[-1].endswith(" samples of 1 intervals: rejected by the server")
    assert not any("answered 200" in line for line in said_of_push(result))


def test_part_that_a_server_has_not_written_is_counted_and_told() -> None:
    def answer(number: int) -> Answer:
        if number == 1:
            return Answer(400, b"out of order sample\n", {WRITTEN: "5"})
        return Answer(204, headers={WRITTEN: "1000000"})

    with (
        double(answer) as server,
        wire() as wired,
        wired.watching(*AS_JSON, "--push", server.base + WRITE) as tool,
    ):
        requests = [server.wait_for(number) for number in range(3)]
        result = tool.stop()
    assert result.code == 1
    assert {request.headers["Content-Type"] for request in requests} == {f"{PROTOBUF};proto={V2}"}
    of = sum(len(points) for _, points in request_2(unpacked(requests[1])))
    text = f"5 of {of} samples written, the others rejected and dropped: 400 Bad Request: out of order sample"
    assert any(line.endswith(text) for line in said_of_push(result)), said_of_push(result)
    assert said_of_push(result)[-1].endswith(f"lost: {of - 5} samples of 1 intervals: rejected by the server")
