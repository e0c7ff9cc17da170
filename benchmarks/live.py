"""CPU time of --live at 65,536 flows, in intervals of one second; with --owners, and if each flow has its own owner."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.process import FLOWS, peak_rss_mb
from tests.support.net import ROOT, Pair, veth_pair
from tests.support.terminal import Screen, Terminal
from tests.unit.make import ETH0, UDP, counts_of, flow, key, snapshot
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.syscall import lib
from xtrace.model.flow import FlowSnapshot, FlowTable
from xtrace.model.flow_owners import OWNER
from xtrace.monitors.owners.names import OwnerNames
from xtrace.sinks.live.owners import OwnerPane
from xtrace.sinks.live.pane import View

SECONDS = 5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TICKS = 20
STATES = {
    "flows by rate": "",
    "by source address": "ss",
    "filter tcp,udp port 1-60000 net 10.0.0.0/8": "ss/udp 1-60000 10.0.0.0/8\r",
    "interfaces": "/\x15\r\t",
    "a flow's detail": "\x1b[Z\r",
}
"""What is measured, and the keys that lead there from the one before."""
OWNED_STATES = {"flows by rate": "", "owners": "\t", "an owner's detail": "\r"}
"""The same with --owners."""


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def view(pair: Pair, terminal: Terminal, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The tool on a terminal, while all flows have packets in each interval."""
    command = [sys.executable, "-m", "xtrace", "-i", pair.far_if, "--live", *options]
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


def states(wanted: Mapping[str, str], *options: str) -> Iterator[str]:
    """A line per state of the screen."""
    terminal = Terminal(50, 200)
    try:
        with veth_pair(addresses=False) as pair, view(pair, terminal, *options) as tool:
            if "--owners" in options:  # no XDP, without which a veth takes such frames only if it merges packets
                pair.far.run("ethtool", "-K", pair.far_if, "gro", "on")
            terminal.until(shows_all)
            for name, typed in wanted.items():
                terminal.type(typed)
                time.sleep(2)  # the history has begun, and the state is on the screen
                begun, before = time.monotonic(), cpu_s(tool.pid)
                time.sleep(SECONDS)
                share = (cpu_s(tool.pid) - before) / (time.monotonic() - begun)
                yield (
                    f"{' '.join(('--live', *options))} with {FLOWS:,} flows, {name}: {100 * share:.1f} % of one core"
                    " (under 10)"
                )
            yield f"  RSS {peak_rss_mb(tool.pid):.1f} MB"
    finally:
        terminal.close()


def owned(owners: int) -> FlowSnapshot:
    """An interval of FLOWS flows that have so many processes in turn."""
    flows = [flow(key("10.0.0.1", "10.0.0.2", (number, number >> 8), UDP), 1, 100 + number) for number in range(FLOWS)]
    plain = snapshot(flows, [(ETH0, counts_of(flows))])
    packed = [OWNER.pack(1, 1 + number, 0, b"bench", lib.OWNER_SOCKET, 0) for number in range(owners)]
    table = FlowTable(plain.flows.entries, FLOWS, memoryview(b"".join(packed) * (FLOWS // owners)))
    return replace(plain, flows=table)


def pane_of_owners() -> Iterator[str]:
    """A line per number of owners: what an interval costs the pane."""
    with Cgroups() as cgroups:
        names = OwnerNames(cgroups, knows_kernel=True)
        for owners in (16, FLOWS):
            shown = replace(owned(owners), name_owner=names.of)
            pane, spent = OwnerPane(), []
            for _ in range(TICKS):
                table = FlowTable(shown.flows.entries, FLOWS, shown.flows.owners)
                begun = time.process_time()
                pane.note(replace(shown, flows=table))
                pane.take(shown)
                pane.entries(View(), pane.orders[0])
                spent.append(time.process_time() - begun)
            yield (
                f"pane of owners, {FLOWS:,} flows of {owners:,} owners: {1e3 * statistics.median(spent):.0f} ms a tick,"
                f" the first {1e3 * spent[0]:.0f} ms"
            )


def measure() -> Iterator[str]:
    """All of it."""
    yield from states(STATES, "--hook", "xdp")
    yield from states(OWNED_STATES, "--owners")
    yield from pane_of_owners()
