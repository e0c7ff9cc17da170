"""The installed Prometheus and VictoriaMetrics on loopback, which scrape an address; their raw samples."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

from tests.push.server import STARTS_WITHIN_S, Labels, Samples, Stores, free_port, victoria_metrics

JOB = """
scrape_configs:
  - job_name: xtrace
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, directory: Path, *arguments: str, config: str = "") -> None:
        (directory / "prometheus.yml").write_text(config)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._http = urllib3.PoolManager()
        self._command = [
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
            *arguments,
        ]
        self._log = directory / "log"
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._ready():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        """Return what it logged."""
        return self._log.read_text()

    def _ready(self) -> bool:
        try:
            return bool(self._http.request("GET", f"{self.base}/-/ready", retries=False).status == 200)
        except urllib3.exceptions.HTTPError:
            return False

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def _get(self, **fields: str) -> list[dict[str, Any]]:
        answer = self._http.request("GET", f"{self.base}/api/v1/query", fields=fields, retries=False)
        assert answer.status == 200, answer.data
        result: list[dict[str, Any]] = json.loads(answer.data)["data"]["result"]
        return result

    def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        return self._get(query=expression, time=str(at_ms / 1000))

    def export(self, selector: str) -> dict[Labels, Samples]:
        """Return raw samples by labels, oldest first; stale markers are not among them."""
        return {
            frozenset(found["metric"].items()): [(round(at * 1000), float(value)) for at, value in found["values"]]
            for found in self._get(query=f"{selector}[1h]", time=str(time.time() + 10))
        }

    def close(self) -> None:
        """Kill it."""
        self._http.clear()
        self.kill()


@contextmanager
def prometheus_server(*arguments: str, config: str = "") -> Iterator[Prometheus]:
    """Run a Prometheus for the block."""
    with tempfile.TemporaryDirectory() as directory:
        server = Prometheus(Path(directory), *arguments, config=config)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def scraping(name: str, target: str) -> Iterator[Stores]:
    """Run one of the servers, `prometheus` or `victoria-metrics`, which scrapes `target`, for the block."""
    if name == "prometheus":
        with prometheus_server(config=JOB.format(target=target)) as prometheus:
            yield prometheus
        return
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        config.write(JOB.format(target=target))
        config.flush()
        with victoria_metrics(f"-promscrape.config={config.name}") as server:
            yield server
