"""Servers that are down, frozen, busy or reject: nothing is lost, no tick waits, every end is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals
from statistics import median
from typing import Any

import pytest

from tests.netns.tool import OUTAGE_S, Result, eventually, run_to_end, total
from tests.push.compare import assert_server_has_all, last, last_minus_first, ms
from tests.push.double import Answer, double
from tests.push.server import Server, free_port, victoria_metrics
from tests.push.wire import Here, wire
from tests.support.net import of_type

LONG = "XTRACE_OUTAGE_S" in os.environ
"""Whether outages have their full length, so that late ticks of a busy machine show in both runs."""
INTERVAL_MS = 500
OUTAGE = round(OUTAGE_S * 1000 / INTERVAL_MS)
"""Length of an outage in intervals."""
AS_JSON = ("-o", "json", "-t", f"{INTERVAL_MS}ms")
LATE_MS = 50
"""The most that the push may delay a tick."""


def pushing(url: str, *arguments: str) -> tuple[str, ...]:
    return ("--push", url, *AS_JSON, *arguments)


def said_of_push(result: Result) -> list[str]:
    return [line.partition(": ")[2] for line in result.said if line.startswith("push to ")]


def lateness(lines: Sequence[dict[str, Any]]) -> list[int]:
    """Return by how many ms gaps between ticks exceed an interval, without the last, which is cut short."""
    ends = [ms(record["ts"]) for record in of_type(lines, "interface")]
    return [later - earlier - INTERVAL_MS for earlier, later in pairwise(ends[:-1])]


@contextmanager
def away(server: Server, how: Signals) -> Iterator[None]:
    """The server is stopped or frozen for the block."""
    if how == SIGSTOP:
        server.send(SIGSTOP)
    else:
        server.stop(how)
    yield
    if how == SIGSTOP:
        server.send(SIGCONT)
    else:
        server.start()


def run_through_outage(how: Signals) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[float]]:
    """Run with the server down in the middle third, beside a run without push.

    Returns the records of both, and the delay in ms of each tick of the first by its push.
    """
    with victoria_metrics() as server, wire() as wired, wired.traffic():
        with (
            wired.watching(*pushing(server.url)) as tool,
            wired.watching(*AS_JSON, "--hook", "tc") as control,
        ):
            tool.wait_for_intervals(OUTAGE)
            with away(server, how):
                tool.wait_for_intervals(OUTAGE)
            if how != SIGSTOP:
                tool.wait_until_it_says(b"delivering again after")
            tool.wait_for_intervals(OUTAGE)
            result, others = tool.stop(), control.stop()
        assert (result.code, others.code) == (0, 0), result.said
        lines = result.records
        # a killed server loses accepted samples that it has not written yet; they are sent again
        assert_server_has_all(server, lines)
        assert last(server, "xtrace_interface_packets_total") == total(lines) > 0
        assert last_minus_first(server, "xtrace_network_packets_total") == total(lines)
        (held_up,) = server.export("xtrace_catch_push_render_seconds").values()
    if how != SIGSTOP:
        said = said_of_push(result)
        assert said[0].endswith("samples are queued, retrying")
        assert any(line.startswith("delivering again after ") for line in said)
    return lines, others.records, [seconds * 1000 for _, seconds in held_up]


@pytest.mark.parametrize("how", [SIGTERM, SIGKILL, SIGSTOP], ids=["stopped", "killed", "frozen"])
def test_through_an_outage_everything_arrives_and_ticks_go_on(how: Signals) -> None:
    lines, others, held_up = run_through_outage(how)
    late, anyway = max(lateness(lines)), max(lateness(others))
    print(f"latest tick: {late} ms, without push {anyway} ms; held up by the push: median {median(held_up):.1f} ms")
    assert not LONG or (late <= anyway + LATE_MS and median(held_up) <= LATE_MS)


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_signal_during_an_outage_ends_the_run_in_time_and_reports_undelivered_samples(number: Signals) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with wire() as wired, wired.traffic(), wired.watching(*pushing(url)) as tool:
        tool.wait_until_it_says(b"Connection refused")
        result = tool.stop(number)
    assert result.code == 1
    ended = said_of_push(result)[-1]
    assert ended.startswith("ended; not delivered within ") and ended.endswith(" samples")
    assert of_type(result.records, "end"), "the output itself is complete"


def test_a_frozen_server_does_not_hold_up_the_end() -> None:
    with victoria_metrics() as server, wire() as wired, wired.traffic():
        with wired.watching(*pushing(server.url)) as tool:
            server.send(SIGSTOP)
            tool.wait_for_intervals(2)
            result = tool.stop()
        assert result.code == 1
        assert " not delivered within " in said_of_push(result)[-1]


def test_unknown_host_is_reported_once_and_the_run_continues() -> None:
    with wire() as wired, wired.watching(*pushing("http://nowhere.invalid:8428", "-c", "8")) as tool:
        result = tool.wait()
    assert result.code == 1
    first, *_, last = said_of_push(result)
    assert first.startswith("unknown host (DNS)")
    assert last.startswith("ended; not delivered within 2.0 s: ")
    assert len(said_of_push(result)) == 2


@pytest.mark.parametrize("status", [503, 429])
def test_busy_server_gets_the_same_batch_again_and_in_the_end_has_everything(status: int) -> None:
    with (
        victoria_metrics() as server,
        double(lambda n: Answer(status, b"try later\n") if n in (1, 2) else None, server.base) as busy,
        wire() as wired,
        wired.traffic(),
        wired.watching(*pushing(busy.base)) as tool,
    ):
        tool.wait_until_it_says(b"delivering again")
        result = tool.stop()
        assert result.code == 0, result.said
        assert busy.requests[1].body == busy.requests[2].body == busy.requests[3].body
        assert f"{status} " in said_of_push(result)[0] and ": try later; samples are queued" in said_of_push(result)[0]
        assert_server_has_all(server, result.records)


def test_retry_after_is_waited_for() -> None:
    asked_s = 2
    with (
        double(lambda n: Answer(503, headers={"Retry-After": str(asked_s)}) if n == 0 else Answer()) as busy,
        wire() as wired,
        wired.watching(*pushing(busy.base)) as tool,
    ):
        gap = busy.wait_for(1).at - busy.wait_for(0).at
        assert tool.stop().code == 0
    assert gap >= asked_s


def test_rejected_batches_are_dropped_counted_and_reported_once_with_the_servers_text() -> None:
    with (
        double(lambda n: Answer(400, b'cannot parse "x"\nmore\n') if n < 4 else Answer()) as refusing,
        wire() as wired,
        wired.watching(*pushing(refusing.base)) as tool,
    ):
        shown = refusing.wait_for(5).text
        result = tool.stop()
    assert result.code == 1
    refused, lost = said_of_push(result)
    assert refused == 'rejected and dropped: 400 Bad Request: cannot parse "x" more'
    assert lost.endswith(" samples of 4 intervals: rejected by the server")
    counted = [line for line in shown.splitlines() if line.startswith("xtrace_catch_push_dropped_batches_total{")]
    assert [line.split()[-2] for line in counted if 'reason="refused"' in line] == ["4"]
    assert len({request.body for request in refusing.requests}) == len(refusing.requests), (
        "a rejected batch was sent again"
    )


def test_slow_answers_lose_nothing_and_do_not_stay_in_the_way() -> None:
    def answer(number: int) -> Answer | None:
        return (
            Answer(200, b"x" * 400, drip_s=0.2)
            if number == 1
            else Answer(503, b"y" * 400, drip_s=0.2)
            if number == 2
            else None
        )

    with (
        victoria_metrics() as server,
        double(answer, server.base) as slow,
        wire() as wired,
        wired.traffic(),
        wired.watching(*pushing(slow.base)) as tool,
    ):
        slow.wait_for(8)
        result = tool.stop()
        assert result.code == 0, result.said
        # the second batch was acknowledged but not forwarded; it is missed after the third failed
        assert "the server lost 1 intervals; sending them again" in said_of_push(result)
        assert_server_has_all(server, result.records)


def test_silent_loss_is_reported() -> None:
    with (
        victoria_metrics("-storage.maxHourlySeries=3") as server,
        wire() as wired,
        wired.traffic(),
        wired.watching(*pushing(server.url)) as tool,
    ):
        tool.wait_until_it_says(b"accepts samples but does not return xtrace_catch_build_info{")
        result = tool.stop()
    assert result.code == 1
    assert said_of_push(result)[-1] == "ended; the server accepted samples but seems not to store them"


@pytest.mark.parametrize("path", ["/metrics", "/health"])
def test_path_that_answers_ok_to_anything_is_warned_of(path: str) -> None:
    with victoria_metrics() as server, wire() as wired:
        with wired.watching(*pushing(server.base + path, "-c", "3")) as tool:
            result = tool.wait()
        assert server.export('{__name__=~"xtrace_.*"}') == {}
    assert result.code == 1
    assert said_of_push(result) == [
        "answered 200 OK instead of 204 No Content: samples may not be stored (check the path)",
        "ended; the server accepted samples but seems not to store them",
    ]


@pytest.mark.parametrize("path", ["/ping", "/-/reload", "/favicon.ico"])
def test_short_run_to_a_path_that_answers_no_content_to_anything_is_warned_of(path: str) -> None:
    with victoria_metrics() as server, wire() as wired:
        with wired.watching(*pushing(server.base + path, "-c", "2")) as tool:
            result = tool.wait()
        assert server.export('{__name__=~"xtrace_.*"}') == {}
    (line,) = said_of_push(result)
    assert line.startswith("ended before the server returned a sample")


def test_short_run_to_a_server_that_cannot_be_asked_ends_well() -> None:
    with double(lambda n: Answer()) as server, wire() as wired, wired.traffic():
        with wired.watching(*pushing(f"{server.base}/any", "-c", "2")) as tool:
            result = tool.wait()
        assert any(request.target.startswith("/api/v1/export?") for request in server.requests)
    assert (result.code, said_of_push(result)) == (
        0,
        ["cannot check that samples are stored: no /api/v1/export found there"],
    )


@pytest.mark.parametrize("path", ["/api/v1/import", "/write", "/api/v2/write"])
def test_path_that_answers_no_content_to_anything_is_refused(path: str) -> None:
    with victoria_metrics() as server, wire() as wired:
        server.post(path, b'up{a="b"} 1 1700000000000\n')
        assert server.export("up") == {}, "it stores nothing"
        result = run_to_end(Here(), "-i", wired.watched, *pushing(server.base + path, "-c", "1"))
    assert result.code == 2
    assert result.said[-1].startswith("xtrace-catch: --push: ") and f", {path}, is not supported" in result.said[-1]


def test_server_that_was_killed_between_two_pushes_gets_what_it_lost() -> None:
    with victoria_metrics() as server, wire() as wired, wired.traffic():
        with wired.watching("--push", server.url, "-o", "json", "-t", "4s") as tool:
            tool.wait_for_intervals(2)
            assert eventually(lambda: len(server.export("xtrace_catch_build_info")) == 1)
            server.stop(SIGKILL)
            server.start()
            tool.wait_for_intervals(2)
            result = tool.stop()
        assert result.code == 0, result.said
        assert any(line.startswith("the server lost ") for line in said_of_push(result))
        assert_server_has_all(server, result.records)


def test_second_run_that_would_write_the_same_series_is_refused() -> None:
    with double(lambda n: Answer()) as server, wire() as wired, wired.watching(*pushing(server.base)) as first:
        second = run_to_end(Here(), "-i", wired.watched, *pushing(server.base, "-c", "1", "--hook", "tc"))
        other = run_to_end(
            Here(), "-i", wired.watched, *pushing(server.base, "-c", "1", "--hook", "tc", "--label", "run=b")
        )
        first.process.kill()
        first.process.wait()
        third = run_to_end(Here(), "-i", wired.watched, *pushing(server.base, "-c", "1", "--hook", "tc"))
    assert (second.code, other.code, third.code) == (2, 0, 0)
    (line,) = second.said
    assert line == (
        f"xtrace-catch: push to {server.base}/api/v1/import/prometheus: another xtrace-catch on this host writes the"
        " same series (give each its own label: --label run=NAME)"
    )


def test_self_check_of_a_server_that_stores_finds_its_sample() -> None:
    with (
        victoria_metrics() as server,
        double(lambda n: None, server.base) as watched,
        wire() as wired,
        wired.watching(*pushing(watched.base)) as tool,
    ):
        assert eventually(lambda: bool(server.export("xtrace_catch_push_stored")))
        stored = server.export("xtrace_catch_push_stored")
        result = tool.stop()
    assert {value for samples in stored.values() for _, value in samples} == {1}
    assert (result.code, said_of_push(result)) == (0, [])
