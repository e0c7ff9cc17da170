"""Recording rules over all hosts, and the dashboard that shows them: what they say of a made-up cluster."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from tests.push.server import Server, victoria_metrics
from tests.push.shipped import ROOT
from xtrace.sinks.metrics.exposition import label_text

RULES = ROOT / "deploy" / "alerts" / "xtrace-cluster.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "xtrace-cluster.json"
STEP_S, STEPS = 30, 61
SILENT_FOR_S = 15 * 60
"""Of host n3."""

FLOWS = {
    ("n1", "10.0.0.2", "10.0.0.1", "ingress"): 1000,
    ("n2", "10.0.0.1", "10.0.0.2", "ingress"): 500,
    ("n1", "10.0.0.1", "10.0.0.2", "egress"): 500,
    ("n2", "other", "other", "ingress"): 100,
}
"""Bytes per second by host, source, destination and direction. The third is the second, seen by its sender."""
ENDED = {("n1", "10.0.0.3", "10.0.0.1", "ingress"): 600}
ENDED_FOR = 4
"""Of the 10 steps in 5 minutes."""
RAILS = {("n1", "mlx5_0"): 4000, ("n1", "mlx5_1"): 4000, ("n2", "mlx5_0"): 4000, ("n2", "mlx5_1"): 400}


def series() -> Iterator[tuple[str, dict[str, str], float, int]]:
    """Yield names, labels, growth per second and the number of steps."""
    for (host, source, _, direction), rate in FLOWS.items():
        ends = {"host": host, "direction": direction}
        yield "xtrace_interface_bytes_total", {**ends, "interface": f"to-{source}"}, rate, STEPS
    for (host, device), rate in RAILS.items():
        for way in ("tx", "rx"):
            yield f"xtrace_rdma_{way}_bytes_total", {"host": host, "device": device, "port": "1"}, rate / 2, STEPS
    for host, steps in (("n1", STEPS), ("n2", STEPS), ("n3", STEPS - SILENT_FOR_S // STEP_S)):
        yield "xtrace_unattributed_packets_total", {"host": host}, 0, steps
        yield "xtrace_rdma_rail_imbalance", {"host": host}, 0, steps
        yield "xtrace_rdma_rails_idle", {"host": host}, 1 / STEP_S, steps


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Server, int]]:
    """A server with the series and what vmalert recorded of them; and the time of the last evaluation, in ms."""
    end = int(time.time()) // 60 * 60 - 60
    start = end - (STEPS - 1) * STEP_S
    lines = []
    for (host, source, destination, direction), per_s in {**FLOWS, **ENDED}.items():
        labels = {"host": host, "direction": direction, "src_ip": source, "dst_ip": destination}
        sample = f"xtrace_network_flow_bytes{{{label_text(labels.items())}}} {per_s * STEP_S}"
        steps = STEPS if (host, source, destination, direction) in FLOWS else STEPS - ENDED_FOR
        lines += [f"{sample} {start + STEP_S * n}000\n" for n in range(steps)]
    for name, labels, rate, steps in series():
        text = label_text(labels.items())
        lines += [f"{name}{{{text}}} {rate * STEP_S * n} {start + STEP_S * n}000\n" for n in range(steps)]
        seen = "xtrace_catch_interval_end_timestamp_seconds", label_text([("host", labels["host"])])
        lines += [f"{seen[0]}{{{seen[1]}}} {start + STEP_S * n} {start + STEP_S * n}000\n" for n in range(steps)]
    with victoria_metrics("-search.latencyOffset=1ms") as server:
        server.post("/api/v1/import/prometheus", "".join(dict.fromkeys(lines)).encode())
        server.flush()
        for _ in range(2):  # a replay evaluates rule by rule: those that build on others see them the second time
            record(server, start, end)
            server.flush()
        yield server, end * 1000


def record(server: Server, start: int, end: int) -> None:
    """Let vmalert evaluate the rules for each minute."""
    begin, until = (f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}" for at in (start, end))
    options = ["-evaluationInterval=1m", "-datasource.queryStep=1m", "-replay.rulesDelay=0s"]
    where = [f"-datasource.url={server.base}", f"-remoteWrite.url={server.base}", "-replay.disableProgressBar"]
    span = [f"-replay.timeFrom={begin}", f"-replay.timeTo={until}"]
    done = subprocess.run(["vmalert", f"-rule={RULES}", *where, *options, *span], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def values(cluster: tuple[Server, int], expression: str, *labels: str) -> dict[tuple[str, ...], int]:
    server, at_ms = cluster
    found = server.query(expression, at_ms)
    return {tuple(each["metric"].get(label, "") for label in labels): round(float(each["value"][1])) for each in found}


def test_every_query_of_the_dashboard_has_a_result(cluster: tuple[Server, int]) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]
    assert len(queries) >= 12
    assert [query for query in queries if not values(cluster, query[1], "host")] == []


def test_matrix_has_each_flow_once_as_its_receiver_counts_it(cluster: tuple[Server, int]) -> None:
    assert values(cluster, "src_ip_dst_ip:xtrace_network_bytes:rate5m", "src_ip", "dst_ip") == {
        ("10.0.0.2", "10.0.0.1"): 1000,
        ("10.0.0.1", "10.0.0.2"): 500,
        ("other", "other"): 100,
        ("10.0.0.3", "10.0.0.1"): 360,  # its average
    }


def test_throughput_by_host_and_direction(cluster: tuple[Server, int]) -> None:
    expected = {("n1", "ingress"): 1000, ("n1", "egress"): 500, ("n2", "ingress"): 600}
    assert values(cluster, "host_direction:xtrace_interface_bytes:rate5m", "host", "direction") == expected
    total = values(cluster, "direction:xtrace_interface_bytes:rate5m", "direction")
    assert total == {("ingress",): 1600, ("egress",): 500}


def test_rail_that_carries_less_than_its_like_is_found(cluster: tuple[Server, int]) -> None:
    assert values(cluster, "device:xtrace_rdma_bytes:rate5m", "device") == {("mlx5_0",): 8000, ("mlx5_1",): 4400}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    (query,) = (panel["targets"][0]["expr"] for panel in panels if panel["title"] == "Ports far from their rail")
    assert list(values(cluster, query, "host", "device")) == [("n2", "mlx5_1")]


def test_host_that_fell_silent_is_listed_with_the_time_since(cluster: tuple[Server, int]) -> None:
    found = values(cluster, "host:xtrace_catch_silent:seconds", "host")
    assert found == {("n1",): 0, ("n2",): 0, ("n3",): SILENT_FOR_S}
