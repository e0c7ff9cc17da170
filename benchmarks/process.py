"""The tool as a whole: start to attached, memory, what it costs while nothing happens."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.rows import Rounds, Row
from tests.support.net import ROOT, Pair, read_until, records, veth_pair
from xtrace.kernel.syscall import lib
from xtrace.monitors.flows.plan import Plan

EXECUTABLE = ROOT / "dist/xtrace-catch"
STARTS = 15
FLOWS = 65536
IDLE_S = 30
CPUS = (2, 16, 64, 128, 512)
MOST_SLOTS = 64
"""Interfaces by `any`."""


def start_s(pair: Pair, command: Sequence[str]) -> float:
    """From the start of the process to the line that says it is attached."""
    options = ("-i", pair.far_if, "--hook", "xdp", "-c", "1", "-t", "100ms", "-o", "none")
    begun = time.perf_counter()
    with pair.far.start(*command, *options, stderr=subprocess.PIPE) as tool:
        read_until(tool.stderr, b"XDP program loaded on")
        spent = time.perf_counter() - begun
        tool.communicate()
    return spent


def nothing_s(pair: Pair) -> float:
    """How long it takes to start a process in the namespace."""
    begun = time.perf_counter()
    pair.far.run("true")
    return time.perf_counter() - begun


def start(command: Sequence[str]) -> str:
    """The smallest and the median time, less that of starting a process there."""
    with veth_pair(addresses=False) as pair:
        found = Rounds(
            {"nothing": partial(nothing_s, pair), "ours": partial(start_s, pair, command)}, STARTS, floor="nothing"
        )
    return f"{found.least('ours') * 1e3:.0f} / {found.median('ours') * 1e3:.0f} ms"


def start_wheel() -> str:
    """Of the wheel, as `make install` installs it."""
    with tempfile.TemporaryDirectory() as prefix:
        subprocess.run(["make", "-s", "install", f"PREFIX={prefix}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return start([f"{prefix}/bin/xtrace-catch"])


def start_static() -> str:
    """Of the static executable, if it has been built."""
    return start([str(EXECUTABLE)]) if EXECUTABLE.exists() else "not measured: `make static` builds it"


def peak_rss_mb(pid: int) -> float:
    """VmHWM in MB (10^6)."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 / 1e6 if found else float("nan")


def memory() -> str:
    """Peak RSS in MB while all intervals have FLOWS flows."""
    options = ("--hook", "xdp", "-t", "2s", "-c", "3", "-o", "json")
    rss, lines = 0.0, []
    with veth_pair(addresses=False) as pair, pair.far.catch("-i", pair.far_if, *options) as tool:
        read_until(tool.stderr, b"XDP program loaded on")
        with pair.near.flood(pair.near_if, 16 * FLOWS, "--flows", str(FLOWS)):
            assert tool.stdout is not None
            for line in tool.stdout:
                if b'"type":"flow"' not in line:
                    lines.append(line)
                    rss = max(rss, peak_rss_mb(tool.pid))
    found = records(b"".join(lines))
    flows = max(record["flows"] for record in found if record["type"] == "interface")
    return f"{rss:.1f} MB with {flows:,} flows"


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def idle() -> str:
    """Share of one CPU while there is no traffic."""
    options = ("--hook", "xdp", "-t", "5s", "-o", "json")
    with veth_pair(addresses=False) as pair, pair.far.catch("-i", pair.far_if, *options) as tool:
        assert tool.stdout is not None
        read_until(tool.stdout, b'"type":"interface"')
        before, begun = cpu_ns(tool.pid), time.monotonic()
        time.sleep(IDLE_S)
        share = (cpu_ns(tool.pid) - before) / 1e9 / (time.monotonic() - begun)
        rss = peak_rss_mb(tool.pid)
        tool.terminate()
        tool.communicate()
    return f"{100 * share:.3f} %, peak RSS {rss:.1f} MB"


def maps() -> str:
    """Memory of the maps at default settings, computed."""
    found = [f"{Plan.make(lib.DEFAULT_MAX_FLOWS, MOST_SLOTS, cpus).memory() / 1e6:.1f}" for cpus in CPUS]
    return f"{', '.join(found)} MB"


ROWS = (
    Row("start-wheel", "start to attached, installed wheel: smallest / median", "110 ms", start_wheel),
    Row("start-static", "start to attached, static executable", "80 ms", start_static),
    Row("memory", "peak RSS at 65,536 flows", "28 MB", memory),
    Row("idle", "idle CPU at 5 s", "0.1 %", idle),
    Row("maps", f"maps at default settings, {', '.join(map(str, CPUS))} CPUs, computed", "64 MB", maps),
)
