"""Start to attached, and memory at 65,536 flows, of the tool as a whole."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.net import ROOT, Pair, read_until, records, veth_pair

EXECUTABLE = ROOT / "dist/xtrace-catch"
STARTS = 10
VERSIONS = 20
FLOWS = 65536


def start_ms(pair: Pair) -> float:
    """From the start of the process to the line that says it is attached."""
    begun = time.perf_counter()
    with pair.far.catch("-i", pair.far_if, "--hook", "xdp", "-c", "1", "-t", "100ms", "-o", "none") as tool:
        read_until(tool.stderr, b"XDP program loaded on")
        spent = time.perf_counter() - begun
        tool.communicate()
    return spent * 1000


def version_ms() -> float:
    """How long the static executable takes for --version."""
    begun = time.perf_counter()
    subprocess.run([EXECUTABLE, "--version"], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begun) * 1000


def peak_rss_mb(pid: int) -> float:
    """VmHWM in MB (10^6)."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 / 1e6 if found else float("nan")


def memory(pair: Pair) -> tuple[float, float, int]:
    """Peak RSS and map memory in MB, and the flows of the largest interval."""
    tool = pair.far.catch("-i", pair.far_if, "--hook", "xdp", "-t", "2s", "-c", "3", "-o", "json")
    read_until(tool.stderr, b"XDP program loaded on")
    sender = pair.near.flood(pair.near_if, 16 * FLOWS, "--flows", str(FLOWS))
    assert tool.stdout is not None
    lines = []
    rss = 0.0
    for line in tool.stdout:
        if b'"type":"flow"' not in line:
            lines.append(line)
            rss = max(rss, peak_rss_mb(tool.pid))
    sender.wait()
    tool.communicate()
    found = records(b"".join(lines))
    flows = max(record["flows"] for record in found if record["type"] == "interface")
    return rss, found[0]["map_memory_bytes"] / 1e6, flows


def measure() -> Iterator[str]:
    """Lines for start and memory."""
    if EXECUTABLE.exists():
        versions = [version_ms() for _ in range(VERSIONS)]
        yield (
            f"static executable, --version: median {statistics.median(versions):.0f} ms (at most 60),"
            f" smallest {min(versions):.0f} ms of {VERSIONS}"
        )
    else:
        yield f"static executable, --version: not measured: no {EXECUTABLE}; `make static` builds it"
    with veth_pair(addresses=False) as pair:
        starts = [start_ms(pair) for _ in range(STARTS)]
        yield f"start to attached: median {statistics.median(starts):.0f} ms, smallest {min(starts):.0f} ms of {STARTS}"
        rss, maps, flows = memory(pair)
        yield f"memory with {flows:,} flows: RSS {rss:.1f} MB (under 40), maps {maps:.1f} MB (at most 64)"
