"""Metrics of mode nccl on a real server: equal to the JSON records, and what dashboard and alerts make of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import skip_or_fail
from tests.nccl.jobs import job, operations, total, wait_for_probes, watching
from tests.nccl.ras_double import serving
from tests.nccl.test_ras import STATUS
from tests.push.server import Server, victoria_metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "alerts" / "xtrace-nccl.yml"
QUIET = {"XtraceNcclUnattributedCalls", "XtraceNcclRasSilent"}
"""Alerts of what does not happen here."""

INTERVALS = 8


def panels() -> list[tuple[str, str]]:
    """Title and query of everything the dashboard shows."""
    shown = json.loads((DEPLOY / "grafana" / "xtrace-nccl.json").read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in shown for target in panel.get("targets", ())]


def alerts() -> dict[str, str]:
    """Name and expression of each alert."""
    return dict(re.findall(r"- alert: (\w+)\n +expr: \|\n +(.*)\n", ALERTS.read_text()))


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Server, int, list[dict[str, Any]]]]:
    """A server that a run has filled, when, and the run's records."""
    for program in ("victoria-metrics", "promtool"):
        if shutil.which(program) is None:
            skip_or_fail("nccl", f"no {program}: sudo make deps")
    with victoria_metrics("-search.latencyOffset=1ms") as server, serving(STATUS) as service:
        ras = f"127.0.0.1:{service.server_address[1]}"
        with (
            job({"STANDIN_ASYNC_ERROR": "6"}) as process,
            watching("--push", server.url, "--ras", ras, "-t", "500ms", stdout=subprocess.PIPE) as tool,
        ):
            wait_for_probes(tool)
            process.do("CommInitRank", "world", 8, 5)
            for _ in range(INTERVALS):  # with calls in each, for rates
                process.do("AllReduce", "world", 1000, 7)
                process.do("AllReduce", "nobody", 1000, 7)
                process.do("CommGetAsyncError", "world")
                tool.wait_until_it_prints(b'"function":"AllReduce"')
                tool.wait_until_it_prints(b'"type":"nccl",')
            result = tool.stop()
        assert result.code == 0
        server.flush()
        yield server, round(time.time() * 1000), result.records


def last(server: Server, selector: str) -> float:
    """The sum of the last raw samples of all series that match."""
    return sum(samples[-1][1] for samples in server.export(selector).values())


def test_counters_are_what_the_records_add_up_to(live: tuple[Server, int, list[dict[str, Any]]]) -> None:
    server, _, records = live
    found = operations(records)
    for metric, field in (
        ("calls_total", "calls"),
        ("requested_bytes_total", "requested_bytes"),
        ("returned_calls_total", "returned"),
    ):
        pushed = last(server, f'xtrace_nccl_{metric}{{function="AllReduce"}}')
        assert pushed == total(found, field, function="AllReduce") > 0
    assert last(server, "xtrace_nccl_async_errors_total") == INTERVALS


def test_every_query_of_the_dashboard_has_a_result(live: tuple[Server, int, list[dict[str, Any]]]) -> None:
    server, now, _ = live
    assert len(panels()) >= 10
    for title, expression in panels():
        query = (
            expression.replace("$host", ".*").replace("$__rate_interval_ms", "10000").replace("$__rate_interval", "10s")
        )
        assert "$" not in query
        assert server.query(query, now), f"{title}: {query}"


def test_alerts_fire_for_what_is_wrong_and_for_nothing_else(live: tuple[Server, int, list[dict[str, Any]]]) -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert len(alerts()) == ALERTS.read_text().count("- alert:")
    server, now, _ = live
    firing = {name for name, expression in alerts().items() if server.query(expression, now)}
    assert firing == set(alerts()) - QUIET
