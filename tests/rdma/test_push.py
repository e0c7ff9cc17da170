"""What a real VictoriaMetrics holds after a run."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from tests.rdma.pair import DEVICE, Tool, hardware_counters, launch, listening, traffic, wait_until
from tests.rdma.peer import Peer

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/xtrace-catch.json"
ALERTS = ROOT / "deploy/alerts/rdma.yml"
ALWAYS = {"RDMA packets", "Port health", "Queue pairs"}
"""Panels that even rxe of Linux 5.10 fills."""

PORT = 8428
EXPORT = f"http://127.0.0.1:{PORT}/api/v1/export?match[]="


@contextmanager
def victoria_metrics(directory: Path) -> Iterator[None]:
    """A server on loopback, its data in a directory of the test's."""
    command = [
        "victoria-metrics",
        "-search.latencyOffset=1ms",
        f"-storageDataPath={directory}",
        f"-httpListenAddr=127.0.0.1:{PORT}",
    ]
    with (directory.parent / "vm.log").open("wb") as log:
        process = launch([*command, "-memory.allowedBytes=64MB"], stdout=log, stderr=log)
    try:
        wait_until(lambda: listening(PORT), "VictoriaMetrics")
        yield
    finally:
        process.terminate()
        process.wait()


def last_values(metric: str) -> list[float]:
    """The last value of each series of the device."""
    query = EXPORT + metric + "{device=%22" + DEVICE + "%22}"
    with urllib.request.urlopen(query) as answer:
        return [json.loads(line)["values"][-1] for line in answer]


def assert_queries_work() -> None:
    """Those of the dashboard's row and of the alerts: understood, and with a result where rxe counts such things."""
    row = next(panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["title"] == "RDMA")
    for panel in row["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$host", ".*").replace("$__rate_interval", "5m")
            if panel["title"] in ALWAYS:
                # a server shows in queries what is some 30 s old
                wait_until(partial(query, expression), f"{panel['title']}: {expression}")
            else:
                query(expression)
    for expression in re.findall(r"expr: (.*)", ALERTS.read_text()):
        query(expression)


def query(expression: str) -> list[object]:
    """The result; an error of the server is one of the test."""
    address = f"http://127.0.0.1:{PORT}/api/v1/query?" + urlencode({"query": expression})
    with urllib.request.urlopen(address) as answer:
        result: list[object] = json.load(answer)["data"]["result"]
        return result


def holds(metric: str, value: int) -> bool:
    return last_values(metric) == [value]


def test_server_holds_the_hardwares_totals_after_a_run(peer: Peer, tmp_path: Path) -> None:
    with victoria_metrics(tmp_path / "data"):
        tool = Tool(tmp_path, "-m", "rdma", "-t", "1s", "--push", f"http://127.0.0.1:{PORT}")
        before = hardware_counters()
        traffic(peer, "ib_write_bw", "-n", "100", "-s", "4096")
        tool.stop()
        after = hardware_counters()
        assert after["rcvd_pkts"] - before["rcvd_pkts"] >= 400
        held = {}
        for metric, counter in {
            "xtrace_rdma_rx_packets_total": "rcvd_pkts",
            "xtrace_rdma_tx_packets_total": "sent_pkts",
            "xtrace_rdma_ack_timeout_total": "completer_retry_err",
            "xtrace_rdma_dup_req_total": "duplicate_request",
        }.items():
            # what was just taken is not found for a second or so
            wait_until(partial(holds, metric, after[counter]), f"{metric} {after[counter]}")
            (held[metric],) = last_values(metric)
        print(held)
        assert_queries_work()
        assert last_values("xtrace_rdma_port_active") == [1]
