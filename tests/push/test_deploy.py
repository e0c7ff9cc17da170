"""Dashboard, alerts and documented queries, on a live run."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.push.server import Server, victoria_metrics
from tests.push.shipped import ALERTS, DOCUMENT, alerts, documented, filled, panels
from tests.push.wire import wire

INTERVALS = 18


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Server, int]]:
    """A server filled by a run with few series, so that `other` exists; and the time of its end."""
    with victoria_metrics("-search.latencyOffset=1ms") as server, wire() as wired:
        with (
            wired.traffic(),
            wired.watching("--push", server.url, "-o", "json", "-t", "500ms", "--max-series", "40") as tool,
        ):
            tool.wait_for_intervals(INTERVALS)
            assert tool.stop().code == 0
        server.flush()
        yield server, round(time.time() * 1000)


def test_every_query_of_the_dashboard_has_a_result(live: tuple[Server, int]) -> None:
    server, now = live
    assert len(panels()) >= 25
    results = {panel: server.query(filled(panel[1]), now) for panel in panels()}
    for (title, expression), result in results.items():
        print(f"{title}: {expression}\n  {len(result)} series, {[entry['value'][1] for entry in result[:3]]}")
    assert [panel for panel, result in results.items() if not result] == []


def test_promtool_accepts_the_alerts_and_the_server_runs_them(live: tuple[Server, int]) -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    server, now = live
    assert len(alerts()) == ALERTS.read_text().count("- alert:")
    firing = {expression: server.query(expression, now) for expression in alerts().values()}
    quiet = {expression: result for expression, result in firing.items() if "other" not in expression}
    assert not any(quiet.values()), quiet


def test_every_documented_query_has_a_result(live: tuple[Server, int]) -> None:
    server, now = live
    assert documented()
    assert [query for query in documented() if not server.query(query, now)] == []


def test_documented_commands_import_query_and_export(live: tuple[Server, int]) -> None:
    server, _ = live
    commands = re.findall(r"^    ((?:echo|curl).*localhost:8428.*)$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(commands) == 3
    answers = [
        subprocess.run(
            ["bash", "-c", command.replace("localhost:8428", f"127.0.0.1:{server.port}")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in commands
    ]
    assert server.export("xtrace_hello")
    assert answers[0] == ""
    assert len(json.loads(answers[1])["data"]["result"]) == 10
    assert json.loads(answers[2])["metric"]["__name__"] == "xtrace_interface_packets_total"
