"""Shipped queries on flow series show the traffic that was, also after it ended, in VictoriaMetrics and Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.push.known import Known
from tests.push.prometheus import prometheus
from tests.push.scrapers import Prometheus
from tests.push.server import Server, victoria_metrics
from tests.push.shipped import ROOT, alerts, documented, filled, panels

AFTER_TICKS = (20, 21, 29, 33, 40, 60, 128, 137, 150, 203, 212, 360)
"""Instants after these intervals: during flows, within a minute of their end, and later."""
TOLERANCE = 0.01

WHOLE_S = 1800
QUERIES = [
    *(filled(query, rate_s, WHOLE_S) for _, query in panels() for rate_s in (60, WHOLE_S)),
    *documented(),
    *(query.rpartition(" > ")[0] for query in alerts().values()),
]
ON_FLOWS = sorted({query for query in QUERIES if "xtrace_network_" in query})


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module", params=["victoria-metrics", "prometheus"])
def server(request: pytest.FixtureRequest, known: Known) -> Iterator[Server | Prometheus]:
    if request.param == "prometheus":
        with prometheus(known.samples) as imported:
            yield imported
    else:
        with victoria_metrics("-search.latencyOffset=1ms") as pushed:
            pushed.post("/api/v1/import/prometheus", known.samples.encode())
            pushed.flush()
            yield pushed


def result(server: Server | Prometheus, query: str, at_ms: int) -> dict[frozenset[tuple[str, str]], float]:
    """Return an instant query's values by labels, without zeros."""
    found = server.query(query, at_ms)
    values = {frozenset(entry["metric"].items()): float(entry["value"][1]) for entry in found}
    assert len(values) == len(found)
    return {labels: value for labels, value in values.items() if value}


@pytest.mark.parametrize("query", ON_FLOWS)
def test_query_shows_known_traffic_to_one_percent(server: Server | Prometheus, known: Known, query: str) -> None:
    seen = 0
    for tick in AFTER_TICKS:
        at_ms = known.at_ms(tick) + 1003
        expected = known.expected(query, at_ms)
        assert result(server, query, at_ms) == pytest.approx(expected, rel=TOLERANCE), tick
        seen += len(expected)
    assert seen


def test_interfaces_and_directions_are_never_added_and_flows_never_rated() -> None:
    assert len(ON_FLOWS) >= 15
    for query in ON_FLOWS:
        assert "rate(" not in query and "_total" not in query
        grouped = re.findall(r"sum by \(([^)]*)\)", query)
        assert grouped and all({"host", "interface", "direction"} <= set(by.split(", ")) for by in grouped), query


def test_no_text_shows_a_rate_of_flows() -> None:
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.json"),
        *ROOT.glob("deploy/**/*.yml"),
    ]
    assert len(texts) > 10
    wrong = re.compile(r"(?:rate|increase)\((?:\\n|\s)*xtrace_network_")
    assert [path for path in texts if wrong.search(path.read_text())] == []


def test_dashboards_stack_nothing() -> None:
    for path in ROOT.glob("deploy/grafana/*.json"):
        assert '"stacking"' not in json.dumps(json.loads(path.read_text()))
