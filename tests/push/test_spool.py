"""--spool: through kills of the tool and of the server nothing is lost, and nothing is stored twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, Protocol

import pytest

from tests.netns.tool import LIMIT_S, Result, eventually
from tests.push import otlp
from tests.push.compare import Grown, ms, printed
from tests.push.double import Answer, double
from tests.push.scrapers import prometheus_server
from tests.push.server import Samples, Stores, free_port, victoria_metrics
from tests.push.test_outages import said_of_push
from tests.push.wire import Wire, wire
from tests.support.net import of_type

AS_JSON = ("-o", "json", "-t", "500ms")
AWAY = max(4, round(float(os.environ.get("XTRACE_OUTAGE_S", "2")) / 0.5))
"""Intervals of each half of an outage."""


class Mortal(Stores, Protocol):
    """A server that can be killed and started again."""

    base: str

    def start(self) -> None:
        """Start again."""

    def kill(self) -> None:
        """Kill with SIGKILL."""


@contextmanager
def serving(name: str) -> Iterator[Mortal]:
    if name == "prometheus":
        with prometheus_server("--web.enable-remote-write-receiver") as server:
            yield server
    elif name == "victoria-metrics by otlp":
        with otlp.receiving() as newer:
            yield newer
    else:
        with victoria_metrics() as other:
            yield other


def waiting(directory: Path) -> int:
    return len([*directory.glob("*/*.batch"), *directory.glob("*/*.unsure")])


def complete(result: Result) -> list[dict[str, Any]]:
    """Return the records of a run, without a line that a kill cut short."""
    return [json.loads(line) for line in result.stdout.splitlines(keepends=True) if line.endswith(b"\n")]


def grown_over_runs(server: Stores, metric: str) -> Grown:
    """Return increments of all series; each run begins at 0. Asserts that no sample is stored twice."""
    sums: Grown = Counter()
    for labels, samples in server.export(metric).items():
        assert_once(samples)
        named = dict(labels)
        for (_, before), (at_ms, after) in pairwise(samples):
            assert after >= before or after == 0, (metric, samples)
            sums[at_ms, named["interface"], named["direction"]] += max(0, int(after - before))
    return +sums


def assert_once(samples: Samples) -> None:
    times = [at_ms for at_ms, _ in samples]
    assert len(times) == len(set(times)), "a sample is stored twice"


def assert_all_runs_are_there(server: Stores, *runs: list[dict[str, Any]]) -> None:
    """Assert that every interval of all runs is there. What a killed run did last may be missing, or not printed."""
    unsure = {max(ms(record["ts"]) for record in of_type(run, "interface")) for run in runs if not of_type(run, "end")}
    lines = [record for run in runs for record in run]
    for unit in ("packets", "bytes"):
        for metric, kinds in (("interface", ("interface",)), ("network", ("flow", "other"))):
            found = grown_over_runs(server, f"xtrace_{metric}_{unit}_total")
            expected = printed(lines, kinds, unit)
            ticks = {at_ms for at_ms, *_ in expected} - unsure
            assert {where: value for where, value in found.items() if where[0] in ticks} == {
                where: value for where, value in expected.items() if where[0] in ticks
            }
            for at_ms in unsure:
                last = {where: value for where, value in expected.items() if where[0] == at_ms}
                assert {where: found[where] for where in last} in (last, dict.fromkeys(last, 0))
    gauges = server.export("xtrace_network_flow_packets")
    assert gauges
    for samples in gauges.values():
        assert_once(samples)


@pytest.mark.parametrize(
    "name, path",
    [
        ("victoria-metrics", "/api/v1/import/prometheus"),
        ("victoria-metrics", "/api/v1/write"),
        ("prometheus", "/api/v1/write"),
        ("victoria-metrics by otlp", otlp.PATH),
    ],
)
def test_nothing_is_lost_or_doubled_through_kills_of_tool_and_server(name: str, path: str, tmp_path: Path) -> None:
    def watching(wired: Wire, server: Mortal) -> Any:
        return wired.watching(*AS_JSON, "--push", server.base + path, "--spool", f"{tmp_path}:100M")

    with serving(name) as server, wire() as wired, wired.traffic(60):
        with watching(wired, server) as tool:
            tool.wait_for_intervals(4)
            server.kill()
            tool.wait_for_intervals(AWAY)
            killed = tool.stop(SIGKILL)
        assert waiting(tmp_path) >= AWAY - 1
        with watching(wired, server) as tool:
            tool.wait_for_intervals(AWAY)
            stopped = tool.stop(SIGTERM)
        assert stopped.code == 0, stopped.said
        assert said_of_push(stopped)[-1].endswith(f" samples, kept in {tmp_path}")
        server.start()
        with watching(wired, server) as tool:
            assert eventually(lambda: waiting(tmp_path) <= 1, LIMIT_S)
            server.kill()
            tool.wait_for_intervals(2)
            server.start()
            tool.wait_until_it_says(b"delivering again")
            if name != "prometheus":  # which writes at once
                tool.wait_until_it_says(b"sending them again")
            tool.wait_for_intervals(2)
            ended = [tool.stop()]
        while waiting(tmp_path):  # more than the end had time for: the server had lost what it was sent in seconds
            with watching(wired, server) as tool:
                assert eventually(lambda: waiting(tmp_path) <= 1, LIMIT_S)
                ended.append(tool.stop())
        assert {result.code for result in ended} == {0}, [result.said for result in ended]
        stored = otlp.ByOtlp(server) if path == otlp.PATH else server
        assert_all_runs_are_there(stored, complete(killed), complete(stopped), *map(complete, ended))


def test_tool_killed_between_two_deliveries_goes_on_without_a_gap_or_a_double(tmp_path: Path) -> None:
    runs: list[list[dict[str, Any]]] = []
    with serving("victoria-metrics") as server, wire() as wired, wired.traffic(60):
        for _ in range(3):
            with wired.watching(*AS_JSON, "--push", server.base, "--spool", str(tmp_path)) as tool:
                tool.wait_for_intervals(4)
                runs.append(complete(tool.stop(SIGKILL)))
        with wired.watching(*AS_JSON, "--push", server.base, "--spool", str(tmp_path)) as tool:
            tool.wait_for_intervals(2)
            assert eventually(lambda: waiting(tmp_path) <= 1)
            result = tool.stop()
        assert result.code == 0, result.said
        assert_all_runs_are_there(server, *runs, complete(result))


def test_nothing_is_stored_twice_where_the_server_shows_late_what_it_has(tmp_path: Path) -> None:
    runs: list[list[dict[str, Any]]] = []

    def shows_nothing(number: int) -> Answer | None:
        is_query = "/export?" in late.requests[number].target
        return Answer(200) if is_query and len(runs) < 3 else None

    with victoria_metrics() as server, wire() as wired, wired.traffic(60), double(shows_nothing, server.base) as late:
        for _ in range(4):
            with wired.watching(*AS_JSON, "--push", late.base, "--spool", str(tmp_path)) as tool:
                tool.wait_for_intervals(1)
                result = tool.stop()
            assert result.code == 0, result.said
            runs.append(complete(result))
        assert_all_runs_are_there(server, *runs)


def test_batch_that_the_server_has_in_part_is_completed(tmp_path: Path) -> None:
    with victoria_metrics() as server, wire() as wired, wired.traffic(60):

        def answer(number: int) -> Answer | None:
            if number != 3:
                return None
            lines = between.requests[3].text.splitlines(keepends=True)
            server.post("/api/v1/import/prometheus", "".join(lines[: len(lines) // 2]).encode())
            return Answer(502)

        with (
            double(answer, server.base) as between,
            wired.watching(*AS_JSON, "--push", between.base, "--spool", str(tmp_path)) as tool,
        ):
            tool.wait_until_it_says(b"delivering again")
            result = tool.stop()
        assert result.code == 0, result.said
        assert_all_runs_are_there(server, complete(result))


def test_limit_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with wire() as wired, wired.traffic(2000, 20_000):
        options = ("--push", url, "--push-format", "remote-write", "--spool", f"{tmp_path}:1M", "--max-series", "2000")
        with wired.watching(*AS_JSON, *options) as tool:
            tool.wait_until_it_says(b"more than 1 MiB queued; dropping the oldest samples")
            size = sum(path.stat().st_size for path in tmp_path.glob("*/*.batch"))
            assert size <= 3 << 20
            result = tool.stop()
    assert result.code == 1
    assert any(" intervals: queue full" in line for line in said_of_push(result))
