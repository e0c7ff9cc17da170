"""Series over time with many short flows: `python -m benchmarks.churn [SECONDS] [FLOWS_PER_SECOND]`, as root.

Flows that never come again, one frame each, cross a veth that the tool watches; it pushes every 10 s to a
VictoriaMetrics on loopback. A line a minute says how many series of a metric the server has had so far. At the end what
the server has is compared with the JSON Lines in every interval, and with what was sent.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netns.tool import environment
from tests.push.compare import grown, last_minus_first, ms
from tests.push.server import Server, victoria_metrics
from tests.push.wire import Here, Wire, wire
from tests.support.net import read_until, records

METRIC = "xtrace_network_{}_total"
EVERY_S = 60.0
OPTIONS = ("--hook", "xdp", "-t", "10s", "-o", "json")


def rss_mb(pid: int, field: str = "VmRSS") -> float:
    """A figure of /proc/PID/status in MB (10^6)."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 / 1e6 if found else float("nan")


class Printed:
    """The sums of what the tool prints, by interval, interface and direction; read by a thread until the end."""

    def __init__(self, tool: subprocess.Popen[bytes]) -> None:
        self.flows: dict[str, Counter[tuple[int, str, str]]] = {"packets": Counter(), "bytes": Counter()}
        self.total: Counter[str] = Counter()
        self.records = self.lost = 0
        self._tool = tool
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self._tool.stdout is not None
        for line in self._tool.stdout:
            (record,) = records(line)
            if record["type"] in ("flow", "other"):
                self.records += 1
                for unit, sums in self.flows.items():
                    sums[ms(record["ts"]), record["interface"], record["direction"]] += record[unit]
            elif record["type"] == "interface":
                self.lost += record["unattributed_packets"] + record["filtered_packets"]
                self.total.update(packets=record["packets"], bytes=record["bytes"])


def series(server: Server) -> set[str]:
    """The series of flows that the server shows, of one metric; some time after midnight only those of the day."""
    server.flush()
    answer = json.loads(server.get("/api/v1/series", **{"match[]": METRIC.format("bytes"), "start": "0"}))
    return {json.dumps(labels, sort_keys=True) for labels in answer["data"]}


def line(since: float, known: set[str], tool: subprocess.Popen[bytes], printed: Printed) -> str:
    """The state of a run, with the series seen so far."""
    return (
        f"{(time.monotonic() - since) / 60:6.1f} min  {printed.records:10,} flow records"
        f"  {len(known):6,} series  tool {rss_mb(tool.pid):6.1f} MB"
    )


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(server: Server, wired: Wire, seconds: float, rate: int) -> Iterator[str]:
    """Lines of a run, the comparison as the last."""
    pipes = {"stdout": subprocess.PIPE, "stdin": subprocess.PIPE}
    churn = (sys.executable, "-m", "tests.push.churn", wired.sender, str(rate))
    watched = ("-i", wired.watched, *OPTIONS, "--push", server.url)
    with ended(Here().catch(*watched, env=environment())) as tool:
        read_until(tool.stderr, b"loaded on")
        printed = Printed(tool)
        begun, known = time.monotonic(), set[str]()
        with ended(wired.far.start(*churn, **pipes)) as sender:
            while (left := begun + seconds - time.monotonic()) > 0 and tool.poll() is None:
                time.sleep(min(EVERY_S, left))
                known |= series(server)
                yield line(begun, known, tool, printed)
            sent, _ = sender.communicate()
        peak = rss_mb(tool.pid, "VmHWM")
        tool.send_signal(signal.SIGTERM)
        printed.thread.join()
        assert tool.stderr is not None
        said, code = tool.stderr.read().decode(), tool.wait()
    yield f"sent: {sent.decode().splitlines()[-1]}"
    yield f"counted: {dict(printed.total)}, lost {printed.lost}; peak memory {peak:.1f} MB"
    yield f"exit code {code}; said: {said or 'nothing'}"
    for unit, sums in printed.flows.items():
        found, metric = grown(server, METRIC.format(unit)), METRIC.format(unit)
        verdict = "equal" if +found == +sums else f"DIFFERENT: {found - sums} {sums - found}"
        yield f"{metric} in each of {len(sums)} intervals against JSON Lines: {verdict}"
        yield f"  last - first over all series: {last_minus_first(server, metric):,}, JSON Lines {sums.total():,}"


def main(seconds: str = "7200", rate: str = "400") -> None:
    with victoria_metrics() as server, wire() as wired:
        for text in run(server, wired, float(seconds), int(rate)):
            print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
