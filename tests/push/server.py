"""Run the installed VictoriaMetrics on loopback with a temporary directory, and read its raw samples."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Any, Protocol

import urllib3

STARTS_WITHIN_S = 60

Labels = frozenset[tuple[str, str]]
Samples = list[tuple[int, float]]
"""Milliseconds and value."""


class Stores(Protocol):
    """A server whose raw samples can be read."""

    def export(self, selector: str) -> dict[Labels, Samples]:
        """Return raw samples by labels, oldest first."""

    def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """Return the result of an instant query."""


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A VictoriaMetrics that can be stopped and restarted on the same data."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        user: str | None = None,
        scheme: str = "http",
        address: str = "127.0.0.1",
    ) -> None:
        self.port = free_port()
        self.address = address
        self.base = f"{scheme}://{address}:{self.port}"
        self.url = f"{self.base}/api/v1/import/prometheus"
        self.directory = directory
        self._arguments = arguments
        self._http = urllib3.PoolManager(
            cert_reqs="CERT_NONE", headers=urllib3.make_headers(basic_auth=user) if user else None
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """The number of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        storage = f"-storageDataPath={self.directory}"
        command = ["victoria-metrics", storage, f"-httpListenAddr={self.address}:{self.port}", "-loggerLevel=ERROR"]
        self._process = subprocess.Popen(
            [*command, *self._arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + STARTS_WITHIN_S
        with socket.socket() as probe:
            while probe.connect_ex((self.address, self.port)):
                assert self._process.poll() is None and time.monotonic() < deadline, "victoria-metrics does not start"
                time.sleep(0.02)

    def send(self, number: Signals) -> None:
        """Send a signal, such as SIGSTOP or SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: Signals = SIGTERM) -> None:
        """Stop the server and wait. SIGKILL loses samples of the last seconds."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.send_signal(SIGCONT)
        self._process.wait(30)
        self._process = None

    def kill(self) -> None:
        """Stop the server with SIGKILL."""
        self.stop(SIGKILL)

    def close(self) -> None:
        """Kill the server if it runs."""
        self._http.clear()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def get(self, path: str, **fields: str) -> bytes:
        """The answer to a GET."""
        # the server closes connections that were idle for a minute, perhaps just now
        answer = self._http.request("GET", self.base + path, fields=fields, retries=1, timeout=30.0)
        assert answer.status == 200, answer.data
        return answer.data

    def post(self, path: str, body: bytes) -> None:
        """Send a POST request."""
        answer = self._http.request("POST", self.base + path, body=body, retries=False, timeout=30.0)
        assert answer.status in (200, 204), answer.data

    def flush(self) -> None:
        """Make all accepted samples visible."""
        self.get("/internal/force_flush")

    def export(self, selector: str) -> dict[Labels, Samples]:
        """Raw samples by labels, `__name__` among them, oldest first."""
        self.flush()
        series: dict[Labels, Samples] = {}
        # without an end, export omits the current second
        fields = {"match[]": selector, "end": str(time.time() + 3600)}
        for line in self.get("/api/v1/export", **fields).splitlines():
            found = json.loads(line)
            samples = zip(found["timestamps"], found["values"], strict=True)
            own = series.setdefault(frozenset(found["metric"].items()), [])
            own.extend((at_ms, value) for at_ms, value in samples if value is not None)  # None: a stale marker
        return {labels: sorted(samples) for labels, samples in series.items()}

    def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """An instant query's result. Without nocache it would not see the last second."""
        answer = json.loads(self.get("/api/v1/query", query=expression, time=str(at_ms / 1000), nocache="1"))
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextmanager
def victoria_metrics(
    *arguments: str, user: str | None = None, scheme: str = "http", address: str = "127.0.0.1"
) -> Iterator[Server]:
    """Run a Server for the block."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), *arguments, user=user, scheme=scheme, address=address)
        try:
            yield server
        finally:
            server.close()


def increments(samples: Sequence[tuple[int, float]]) -> dict[int, int]:
    """Return a counter's increments by time of sample; asserts that it never decreases."""
    grown = {}
    for (_, before), (at_ms, after) in pairwise(samples):
        assert after >= before, f"a counter decreased: {samples}"
        if after > before:
            grown[at_ms] = int(after - before)
    return grown
