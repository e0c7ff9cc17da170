"""Each alert fires for its fault and for nothing else: in Prometheus' rule tests, and by vmalert on a live server."""

from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.push.alert_cases import CASES, LENGTH, STEP_S, firing, hosts
from tests.push.server import victoria_metrics
from tests.push.shipped import ROOT
from xtrace.sinks.metrics.exposition import label_text

RULES = ROOT / "deploy" / "alerts"
FIRING = 'ALERTS{alertstate="firing"}'
FILES = sorted(CASES)
OF_RANKS = "xtrace-nccl-hang.yml"
"""Its alerts compare hosts: tests/nccl/test_hang.py makes the faults and asks which of them fire."""

OF_CLUSTERS = "xtrace-cluster.yml"
"""It records, and has no alerts: test_cluster.py."""


@pytest.mark.parametrize("file", FILES)
def test_every_alert_has_hosts_where_it_fires_and_where_it_does_not(file: str) -> None:
    assert set(re.findall(r"- alert: (\w+)", (RULES / file).read_text())) == set(CASES[file])
    for of_alert in CASES[file].values():
        assert {host.fires for host in of_alert} == {True, False}
    assert {path.name for path in RULES.iterdir()} == {*FILES, OF_RANKS, OF_CLUSTERS}


@pytest.mark.parametrize("file", [*FILES, OF_RANKS])
def test_promtool_accepts_the_alerts(file: str) -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES / file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES)
def test_alerts_fire_for_their_fault_only_in_prometheus(file: str, tmp_path: Path) -> None:
    input_series = [
        {
            "series": f"{series.name}{{{label_text(series.labels.items())}}}",
            "values": " ".join("_" if value is None else repr(value) for value in series.values),
        }
        for _, host in hosts(CASES[file])
        for series in host.all()
    ]
    expected = [
        {"labels": f'{{alertname="{alert}", host="{host}", run="{run}"}}'.replace(', run=""', ""), "value": 1}
        for alert, host, run in firing(CASES[file])
    ]
    query = {
        "expr": f"count by (alertname, host, run) ({FIRING})",
        "eval_time": f"{(LENGTH - 1) * STEP_S}s",
        "exp_samples": expected,
    }
    test = {"interval": f"{STEP_S}s", "input_series": input_series, "promql_expr_test": [query]}
    tests = {"rule_files": [str(RULES / file)], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES)
def test_alerts_fire_for_their_fault_only_in_vmalert(file: str) -> None:
    # vmalert evaluates at full minutes
    end = int(time.time()) // 60 * 60 - 60
    start = end - (LENGTH - 1) * STEP_S
    lines = []
    for _, host in hosts(CASES[file]):
        for name, labels, values in host.all():
            text = label_text(labels.items())
            times = range(start, end + 1, STEP_S)
            samples = zip(times, values, strict=True)
            lines += [f"{name}{{{text}}} {value} {at}000\n" for at, value in samples if value is not None]
    with victoria_metrics("-search.latencyOffset=1ms") as server:
        server.post("/api/v1/import/prometheus", "".join(lines).encode())
        server.flush()
        replay = [
            "vmalert",
            f"-rule={RULES / file}",
            f"-datasource.url={server.base}",
            f"-remoteWrite.url={server.base}",
            "-evaluationInterval=1m",
            "-datasource.queryStep=1m",
            "-replay.rulesDelay=0s",
            "-replay.disableProgressBar",
            f"-replay.timeFrom={datetime.fromtimestamp(start, timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            f"-replay.timeTo={datetime.fromtimestamp(end, timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        ]
        done = subprocess.run(replay, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        server.flush()
        found = server.query(FIRING, end * 1000)
    fired = {(entry["metric"]["alertname"], entry["metric"]["host"], entry["metric"].get("run", "")) for entry in found}
    assert fired == firing(CASES[file])
