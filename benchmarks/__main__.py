"""`make bench`, or `python -m benchmarks [--save] [NAME ...]`, as root.

Prints the table of rows, or only those that are named; --save writes benchmarks/RESULTS.md. Reports are longer, and
printed only if they are named. benchmarks.churn and benchmarks.hosts, which take hours, and benchmarks.flood are
commands of their own.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import drain, fleet, live, nccl, owners, packet, process, push, rdma, tcp, tcp_packets, veth
from benchmarks.rows import Row

RESULTS = Path(__file__).parent / "RESULTS.md"

ROWS = {row.name: row for module in (packet, drain, push, veth, process) for row in module.ROWS}
REPORTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "owners": owners.measure,
    "tcp": tcp.measure,
    "tcp-packets": tcp_packets.measure,
    "fleet": fleet.measure,
    "rdma": rdma.measure,
    "nccl": nccl.measure,
    "live": live.measure,
}

HEAD = ("row", "what", "now", "goal")
EXPLAINED = """\
Ratios are of what takes turns in one run: of the smallest rounds / of the medians. *naive* is the simplest exact
counter of IPv4 flows, *raw* the LOOKUP_AND_DELETE_BATCH calls that empty a hash map with as many flows. Costs of
packets are CPU time of BPF_PROG_TEST_RUN over an *empty* program. `python -m benchmarks ROW` repeats one row.
"""


def machine() -> Iterator[str]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(": ")[2] if models else platform.machine()
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    yield f"{os.cpu_count()} CPUs, {model}; Linux {platform.release()}; Python {platform.python_version()}"
    yield f"{time.strftime('%F %H:%M', time.gmtime())} UTC, revision {revision}"


def load() -> str:
    """How busy the machine is: more than 1 before a run means that others are at work."""
    return f"{os.getloadavg()[0]:.1f}"


def measured(rows: Sequence[Row], show: Callable[[Sequence[str]], None]) -> Iterator[tuple[str, ...]]:
    """The cells of each row, which is shown as soon as it is there."""
    for row in rows:
        cells = (row.name, row.what, row.measure(), row.goal)
        show(cells)
        yield cells


def show_plain(cells: Sequence[str]) -> None:
    """A row on the terminal."""
    name, what, now, goal = cells
    print(f"{name:<16} {what:<62} {now:<34} {goal}", flush=True)


def save(table: Sequence[Sequence[str]], before: str, command: str) -> None:
    """Write the table as a document."""
    lines = ["# Results", "", f"`{command}`", *(f"\n{line}" for line in machine())]
    lines += [f"\nLoad of the machine before: {before}, afterwards: {load()}.", "", EXPLAINED]
    lines += [f"| {' | '.join(HEAD)} |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    RESULTS.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", epilog=f"rows: {' '.join(ROWS)}; reports: {' '.join(REPORTS)}")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*ROWS, *REPORTS, []])
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    given = parser.parse_args()
    rows = [ROWS[name] for name in given.names or ROWS if name in ROWS]
    before = load()
    if rows:
        for line in machine():
            print(line)
        print(f"load {before}; `sudo make bench ARGS='{' '.join(sys.argv[1:])}'`")
        show_plain(HEAD)
    table = list(measured(rows, show_plain))
    if given.save:
        save(table, before, f"sudo make bench ARGS='{' '.join(sys.argv[1:])}'")
    for name in given.names:
        for line in REPORTS[name]() if name in REPORTS else ():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
