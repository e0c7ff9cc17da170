"""Many hosts into one server: `python -m benchmarks.hosts [HOSTS] [SECONDS] [SERIES]`.

So many simulated hosts push every 5 s, each at its own time, by remote write, to a VictoriaMetrics on loopback: first
a quarter of them, then half, then all, for so many seconds each. A line per step says what the server needed: CPU,
memory, and how late the requests became. A host's request is made once per interval and gets each host's name, so the
sender costs little, and what is sent is what hosts would send: counters of flows that all have traffic.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.churn import rss_mb
from tests.push.server import Server, victoria_metrics
from xtrace.sinks.metrics.flows import DESCRIBED
from xtrace.sinks.metrics.remote_write import HEADERS_1, RemoteWrite
from xtrace.sinks.metrics.sample import Interval, Sample
from xtrace.sinks.metrics.snappy import compressor

EVERY_S = 5.0
HOSTS, SECONDS, SERIES = 1000, 60, 1001
SENDERS = 8
"""Connections at a time; real hosts have one each."""
NAME = "host-{:06d}"
TICKS = os.sysconf("SC_CLK_TCK")


class Host:
    """The request that all hosts send, but for the name: two counters for each of its flows, and one sample more."""

    def __init__(self, series: int) -> None:
        self._flows = [
            (
                ("src_ip", f"10.{number >> 8}.{number & 255}.7"),
                ("dst_ip", "10.255.0.1"),
                ("src_port", str(32768 + number)),
                ("dst_port", "443"),
                ("protocol", "6"),
                ("traffic_type", "TCP"),
                ("interface", "eth0"),
                ("direction", "ingress"),
            )
            for number in range(series // 2)
        ]
        self._has_one_more = series % 2
        self._encoding = RemoteWrite((("host", NAME.format(0)),))
        self._encoding.fall_back()
        self._encoding.body()

    def request(self, number: int, at_ms: int) -> bytes:
        """Return the request of an interval, not compressed."""
        grown = number * 7919
        samples = [
            Sample(
                labels,
                {"xtrace_network_bytes_total": grown * (index + 64), "xtrace_network_packets_total": grown + index},
            )
            for index, labels in enumerate(self._flows)
        ]
        if self._has_one_more:
            samples.append(Sample((), {"xtrace_interface_packets_total": grown}))
        self._encoding.add(samples, DESCRIBED, Interval(at_ms - round(EVERY_S * 1000), at_ms))
        return self._encoding.body()


class Fleet:
    """Sends for all hosts, spread over the interval, from a few threads."""

    def __init__(self, port: int, hosts: int, host: Host) -> None:
        self._port, self._hosts, self._host = port, hosts, host
        self._compress = compressor()
        self.bytes = self.requests = 0
        self.latest_s = 0.0
        """how long after its time a request was answered"""
        self._lock = threading.Lock()

    def run(self, first: int, intervals: int) -> None:
        """Send that many intervals of all hosts."""
        begun = time.monotonic()
        for interval in range(intervals):
            body = self._host.request(first + interval, round(time.time() * 1000))
            at = begun + interval * EVERY_S
            senders = [threading.Thread(target=self._send, args=(body, number, at)) for number in range(SENDERS)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            time.sleep(max(0.0, at + EVERY_S - time.monotonic()))

    def _send(self, body: bytes, sender: int, begun: float) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        own = NAME.format(0).encode()
        for host in range(sender, self._hosts, SENDERS):
            due = begun + EVERY_S * host / self._hosts
            time.sleep(max(0.0, due - time.monotonic()))
            packed = self._compress(body.replace(own, NAME.format(host).encode()))
            client.request("POST", "/api/v1/write", packed, dict(HEADERS_1))
            assert client.getresponse().read() == b""
            with self._lock:
                self.bytes += len(packed)
                self.requests += 1
                self.latest_s = max(self.latest_s, time.monotonic() - due)
        client.close()


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def step(server: Server, hosts: int, host: Host, first: int, intervals: int) -> str:
    """Let the hosts push, the first interval, which makes the series, unmeasured; return what it took."""
    fleet = Fleet(server.port, hosts, host)
    fleet.run(first, 1)
    pid = server.pid
    fleet.latest_s = fleet.bytes = fleet.requests = 0
    before, begun = cpu_s(pid), time.monotonic()
    fleet.run(first + 1, intervals)
    took, cpu = time.monotonic() - begun, cpu_s(pid) - before
    return (
        f"{hosts:5} hosts: {fleet.requests / took:6.1f} requests/s, {fleet.bytes / took / 1e6:5.2f} MB/s;"
        f" server: {cpu / took:4.2f} CPUs, {1e6 * cpu / fleet.requests:6.0f} us a request,"
        f" {rss_mb(pid):6.0f} MB; latest answer after {fleet.latest_s:.1f} s"
    )


def measure(hosts: int = HOSTS, seconds: int = SECONDS, series: int = SERIES) -> Iterator[str]:
    """Yield a line per number of hosts, and what is on disk in the end."""
    intervals = max(1, round(seconds / EVERY_S) - 1)
    host, first = Host(series), 1
    yield f"hosts with {series} series, each every {EVERY_S:.0f} s, {intervals} intervals; one VictoriaMetrics:"
    with victoria_metrics() as server:
        for some in (hosts // 4, hosts // 2, hosts):
            yield step(server, some, host, first, intervals)
            first += intervals + 1
        server.flush()
        (found,) = json.loads(server.get("/api/v1/series/count"))["data"]
        samples = (hosts // 4 + hosts // 2 + hosts) * (intervals + 1) * series
        size = sum(path.stat().st_size for path in server.directory.rglob("*") if path.is_file())
        yield f"series: {found}; {size / samples:.2f} bytes per sample on disk, index included"


if __name__ == "__main__":
    for line in measure(*map(int, sys.argv[1:])):
        print(line, flush=True)
