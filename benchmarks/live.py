"""CPU time of --live at 65,536 flows, in intervals of one second."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.process import FLOWS, peak_rss_mb
from tests.support.net import ROOT, Pair, veth_pair
from tests.support.terminal import Screen, Terminal

SECONDS = 5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STATES = {
    "flows by rate": "",
    "by source address": "ss",
    "filter tcp,udp port 1-60000 net 10.0.0.0/8": "ss/udp 1-60000 10.0.0.0/8\r",
    "interfaces": "/\x15\r\t",
    "a flow's detail": "\x1b[Z\r",
}
"""What is measured, and the keys that lead there from the one before."""


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def view(pair: Pair, terminal: Terminal) -> Iterator[subprocess.Popen[bytes]]:
    """The tool on a terminal, while all flows have packets in each interval."""
    command = [sys.executable, "-m", "xtrace", "-i", pair.far_if, "--live", "--hook", "xdp"]
    ends = terminal.theirs
    with ExitStack() as running:
        tool = subprocess.Popen(pair.far.command(*command), cwd=ROOT, stdin=ends, stdout=ends, stderr=ends)
        running.callback(end, tool)
        terminal.until_shown("[flows 0]")
        running.callback(end, pair.near.flood(pair.near_if, 1 << 40, "--flows", str(FLOWS)))
        yield tool


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and wait for its end."""
    process.kill()
    process.wait()


def shows_all(screen: Screen) -> bool:
    """Whether an interval with nearly all flows is on the screen."""
    found = re.search(r"flows (?:\d+/)?(\d+)", screen.lines()[2])
    return found is not None and int(found[1]) > 0.95 * FLOWS


def measure() -> Iterator[str]:
    """A line per state of the screen."""
    terminal = Terminal(50, 200)
    try:
        with veth_pair(addresses=False) as pair, view(pair, terminal) as tool:
            terminal.until(shows_all)
            for name, typed in STATES.items():
                terminal.type(typed)
                time.sleep(2)  # the history has begun, and the state is on the screen
                begun, before = time.monotonic(), cpu_s(tool.pid)
                time.sleep(SECONDS)
                share = (cpu_s(tool.pid) - before) / (time.monotonic() - begun)
                yield f"--live with {FLOWS:,} flows, {name}: {100 * share:.1f} % of one core (under 10)"
            yield f"  RSS {peak_rss_mb(tool.pid):.1f} MB"
    finally:
        terminal.close()
