"""Measure a tick's push, from snapshot to server's answer, against gzip alone of the same body."""

from __future__ import annotations

import random
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from benchmarks.rows import Row
from xtrace.model.flow import COUNTERS, ENTRY, KEY, FlowSnapshot, FlowTable, Interface, InterfaceCounts, TickClock
from xtrace.model.words import Hook, XdpMode
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.flows import DESCRIBED, FlowMetrics
from xtrace.sinks.metrics.sample import Interval
from xtrace.sinks.push.transport import Http
from xtrace.target import Target

SERIES = 10_000
FLOWS = SERIES // 4
"""Each has two counters and two gauges."""
ROUNDS = 9
SECOND = 1_000_000_000
INTERFACE = Interface("bench0", 0, Hook.XDP, XdpMode.NATIVE)
CONSTANT = (("host", "node-17.example.net"), ("host_ip", "192.0.2.17"))


class Server(BaseHTTPRequestHandler):
    """Reads and discards requests; answers 204."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()


def keys(choice: random.Random) -> bytes:
    """Return packed keys of typical server traffic: clients with high ports, few services."""

    def mapped() -> bytes:
        return bytes(10) + b"\xff\xff\x0a" + choice.randbytes(3)

    return b"".join(
        KEY.pack(
            mapped(), mapped(), choice.randrange(1024, 65536), choice.choice((22, 80, 443)), 0, 0, 0x0800, 0, 6, 0, 0
        )
        for _ in range(FLOWS)
    )


def snapshot(packed: bytes, number: int, choice: random.Random) -> FlowSnapshot:
    """Return a snapshot of all flows with new counts."""
    counters = (
        COUNTERS.pack(choice.randrange(1, 10**5), choice.randrange(64, 10**8), 0, 0, 0, 0) for _ in range(FLOWS)
    )
    entries = b"".join(
        (packed[at : at + KEY.size] + values).ljust(ENTRY.size, b"\0")
        for at, values in zip(range(0, len(packed), KEY.size), counters, strict=True)
    )
    flows = FlowTable(memoryview(entries), FLOWS)
    counts = InterfaceCounts(total=flows.sum(range(FLOWS)))
    end = number * 5 * SECOND
    return FlowSnapshot(end, 5 * SECOND, end - 5 * SECOND, TickClock(), 0, flows, ((INTERFACE, counts),))


def gzip_ms(encoding: Exposition, body: bytes) -> float:
    """Return the time that compressing as in Delivery takes."""
    begun = time.perf_counter()
    encoding.compress(body)
    return (time.perf_counter() - begun) * 1000


def measure() -> str:
    """Encode + gzip + POST over gzip, each the smallest of several rounds; and the median."""
    choice = random.Random(7)
    packed = keys(choice)
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/api/v1/import/prometheus"
    transport = Http(Target(url, url), "bench")
    metrics, encoding = FlowMetrics(MetricsOptions(FLOWS)), Exposition(CONSTANT)
    gzip, whole = [], []
    for number in range(1, ROUNDS + 2):
        interval = snapshot(packed, number, choice)
        begun = time.perf_counter()
        encoding.add(metrics.samples(interval), DESCRIBED, Interval.of(interval))
        body = encoding.body()
        compressed = encoding.compress(body)
        outcome = transport.send(compressed, encoding.headers(compressed))
        ended = time.perf_counter()
        assert outcome.delivered, outcome
        if number > 1:  # the first makes the series
            assert body.count(b"\nxtrace_network_") == SERIES
            whole.append((ended - begun) * 1000)
            gzip.append(gzip_ms(encoding, body))
    transport.close()
    server.shutdown()
    server.server_close()
    ratios = min(whole) / min(gzip), statistics.median(whole) / statistics.median(gzip)
    return f"{ratios[0]:.2f} / {ratios[1]:.2f} ({min(whole):.1f} of {min(gzip):.1f} ms, {len(body):,} bytes)"


ROWS = (Row("push", f"push of {SERIES:,} series: encode, gzip and POST, over gzip alone", "2", measure),)
