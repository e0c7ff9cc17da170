"""What a tick of mode rdma costs: 64 ports with 60 counters each, read from files (no netlink), and rendered."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from errno import EPROTONOSUPPORT
from pathlib import Path

import orjson

from xtrace.kernel import syscall
from xtrace.monitors.rdma.monitor import RdmaMonitor, RdmaOptions
from xtrace.sinks.jsonl.rdma import rdma_records

PORTS, STANDARD, HARDWARE = 64, 20, 40
TICKS = 20
COMPILED = syscall.lib

NAMES = (
    "port_rcv_data", "port_xmit_data", "port_rcv_packets", "port_xmit_packets", "symbol_error", "link_downed",
    "port_rcv_errors", "port_xmit_discards", "port_xmit_wait", "link_error_recovery",
)  # fmt: skip


def build(sysfs: Path) -> None:
    """The tree: plain files, so no driver's time is in it."""
    for device in range(PORTS):
        port = sysfs / f"class/infiniband/mlx5_{device}/ports/1"
        for name, text in {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)"}.items():
            port.mkdir(parents=True, exist_ok=True)
            (port / name).write_text(f"{text}\n")
        for kind, count in (("counters", STANDARD), ("hw_counters", HARDWARE)):
            (port / kind).mkdir()
            for index in range(count):
                name = NAMES[index] if kind == "counters" and index < len(NAMES) else f"counter_{index}"
                (port / kind / name).write_text(f"{index * 1000}\n")


class Opened:
    """Counts the files that are opened, by the interpreter's own audit events."""

    def __init__(self) -> None:
        self.count = 0
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        self.count += event == "open"


def plain_reads(paths: list[str]) -> float:
    """Milliseconds for opening and reading these files once each, and nothing else: the floor."""
    begun = time.perf_counter()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 4096)
        os.close(descriptor)
    return (time.perf_counter() - begun) * 1000


class NoNetlink:
    """A kernel without RDMA netlink: files are all there is."""

    def __getattr__(self, name: str) -> object:
        return getattr(COMPILED, name)

    def xt_netlink_open(self, protocol: int, groups: int) -> int:
        return -EPROTONOSUPPORT


def measure() -> Iterator[str]:
    """Lines: a tick against the floor, files opened, memory allocated."""
    syscall.lib = NoNetlink()  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XTRACE_SYSFS"] = directory
        build(Path(directory))
        paths = [str(path) for path in Path(directory).rglob("*counters/*")]
        with closing(RdmaMonitor(RdmaOptions(), lambda text: None)) as monitor:
            opened = Opened()
            snapshot = monitor.tick()
            files = opened.count
            ticks, floors, rendered = [], [], []
            for _ in range(TICKS):
                begun = time.perf_counter()
                snapshot = monitor.tick()
                ticks.append((time.perf_counter() - begun) * 1000)
                floors.append(plain_reads(paths))
                begun = time.perf_counter()
                size = sum(len(orjson.dumps(record)) for record in rdma_records(snapshot, {"host": "n1"}))
                rendered.append((time.perf_counter() - begun) * 1000)
            tracemalloc.start()
            kept = monitor.tick()
            _, peak = tracemalloc.get_traced_memory()
            blocks = sum(statistic.count for statistic in tracemalloc.take_snapshot().statistics("filename"))
            tracemalloc.stop()
            assert len(kept.ports) == PORTS
    tick, floor, json = (statistics.median(values) for values in (ticks, floors, rendered))
    each = STANDARD + HARDWARE
    yield f"rdma tick, {PORTS} ports x {each} counters: median {tick:.1f} ms, smallest {min(ticks):.1f} ms"
    yield f"  against opening and reading these {len(paths)} files alone: {floor:.1f} ms, {tick / floor:.2f} times"
    yield f"  files opened: {files}; allocated: peak {peak / 1e6:.2f} MB, {blocks} blocks live at its end"
    yield f"  as JSON: {json:.1f} ms, {size / 1e6:.2f} MB"
