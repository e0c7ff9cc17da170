"""Run the installed Prometheus on loopback over samples in the text format, which it imports as blocks."""

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

from tests.push.server import STARTS_WITHIN_S, free_port


def open_metrics(exposition: str) -> str:
    """Return samples of the text format as OpenMetrics: timestamps in seconds, in order, no descriptions."""
    samples = [line.rsplit(" ", 2) for line in exposition.splitlines() if not line.startswith("#")]
    samples.sort(key=lambda sample: int(sample[2]))
    lines = [f"{series} {value} {int(at_ms) / 1000:.3f}\n" for series, value, at_ms in samples]
    return "".join(lines) + "# EOF\n"


class Prometheus:
    """A Prometheus with imported samples."""

    def __init__(self, directory: Path, exposition: str) -> None:
        (directory / "samples").write_text(open_metrics(exposition))
        blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(directory / "samples")]
        subprocess.run([*blocks, str(directory / "data")], check=True, capture_output=True)
        (directory / "prometheus.yml").write_text("")
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self._http = urllib3.PoolManager()
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._ready():
            assert self._process.poll() is None and time.monotonic() < deadline, "prometheus does not start"
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return bool(self._http.request("GET", f"{self.base}/-/ready", retries=False).status == 200)
        except urllib3.exceptions.HTTPError:
            return False

    def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        fields = {"query": expression, "time": str(at_ms / 1000)}
        answer = self._http.request("GET", f"{self.base}/api/v1/query", fields=fields, retries=False)
        assert answer.status == 200, answer.data
        result: list[dict[str, Any]] = json.loads(answer.data)["data"]["result"]
        return result

    def close(self) -> None:
        """Kill the server."""
        self._http.clear()
        self._process.kill()
        self._process.wait()


@contextmanager
def prometheus(exposition: str) -> Iterator[Prometheus]:
    """Run a Prometheus for the block."""
    with tempfile.TemporaryDirectory() as directory:
        server = Prometheus(Path(directory), exposition)
        try:
            yield server
        finally:
            server.close()
