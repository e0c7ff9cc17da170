"""Sums of modes rdma and nccl: ports with their health, processes with their calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xtrace.report.interfaces import Record, length_of, seconds_of, text, whole
from xtrace.report.sums import MOST_KEYS, Count, Largest, Series

HEALTH = ("ok", "warn", "critical")
TRAFFIC = ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets")
MOST_PORTS = 256
MOST_REASONS = 20
MOST_FAILURES = 100


@dataclass
class PortSums:
    """One RDMA port. A sum of None: nothing was known."""

    about: dict[str, str] = field(default_factory=dict)
    """state, rate, interface, ... of the last record"""
    traffic: dict[str, int | None] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    """intervals without a value, by figure"""
    figures: dict[str, int] = field(default_factory=dict)
    health: dict[str, int] = field(default_factory=dict)
    """intervals by health"""
    reasons: dict[str, int] = field(default_factory=dict)
    intervals: int = 0
    rates: dict[str, Series] = field(default_factory=lambda: {"rx": Series(), "tx": Series()})

    @property
    def worst(self) -> str:
        """Return the worst health of any interval."""
        return max(self.health, key=HEALTH.index, default="ok")

    def add(self, record: Record) -> None:
        """Add a rdma_port record."""
        health = record["health"]
        if health not in HEALTH:
            raise ValueError(f"health {health!r}")
        end = seconds_of(record["ts"])
        seconds = length_of(record.get("interval_s"))
        figures = record.get("figures", {})
        for name in ("state", "physical_state", "link_layer", "rate", "interface", "driver", "unavailable"):
            if record.get(name):
                self.about[name] = text(record[name])
        self.intervals += 1
        self.health[health] = self.health.get(health, 0) + 1
        for reason in record.get("reasons", []):
            if reason in self.reasons or len(self.reasons) < MOST_REASONS:
                self.reasons[text(reason)] = self.reasons.get(text(reason), 0) + 1
        for name in TRAFFIC:
            self._add_traffic(name, record.get(name))
        for name, figure in figures.items():
            delta = figure.get("delta")
            if name not in TRAFFIC and isinstance(delta, int):
                self.figures[text(name)] = self.figures.get(name, 0) + delta
        for way, series in self.rates.items():
            size = record.get(f"{way}_bytes")
            if size is not None and seconds:
                series.add(end, seconds, 8 * whole(size))

    def _add_traffic(self, name: str, value: object) -> None:
        if value is None:
            # a counter that is read for the first time has no growth yet, and misses nothing
            if self.traffic.setdefault(name, None) is not None:
                self.unknown[name] = self.unknown.get(name, 0) + 1
        else:
            self.traffic[name] = (self.traffic.get(name) or 0) + whole(value)


@dataclass
class Verdict:
    """What was said of a rank: in how many records, and the last of them."""

    times: int = 0
    job: str = ""
    function: str = ""
    evidence: str = ""


@dataclass
class NcclSums:
    """All NCCL processes. Counts are calls and requested bytes."""

    calls: int = 0
    unattributed: int = 0
    processes: Largest[tuple[str, int, str]] = field(default_factory=Largest)
    """by host, pid, command"""
    operations: Largest[tuple[str, str]] = field(default_factory=Largest)
    """by function and datatype"""
    unsized: set[tuple[str, ...]] = field(default_factory=set)
    """processes and operations with calls whose bytes are not known"""
    errors: int = 0
    unprobed: set[tuple[str, int]] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    """by communicator, as last reported: ranks that are missing"""
    skew: dict[str, int] = field(default_factory=dict)
    """by communicator: the most"""
    verdicts: dict[tuple[str, str, str], Verdict] = field(default_factory=dict)
    """by communicator, rank and verdict"""

    def add_process(self, record: Record) -> None:
        """Add a nccl_process record."""
        who = (text(record["host"]), whole(record["pid"]), text(record["command"]))
        if record["calls"] is None:
            if len(self.unprobed) < MOST_FAILURES:
                self.unprobed.add(who[:2])
            return
        calls, size = whole(record["calls"]), record.get("requested_bytes")
        failed = whole(record["errors"] or 0) + whole(record.get("async_errors") or 0)
        self._add_size(self.processes, who, calls, size)
        self.errors += failed
        self.add_operations(record)

    def add_operations(self, record: Record) -> None:
        """Add the operations of a process or communicator."""
        for operation in record["operations"]:
            name = text(operation["function"]), text(operation.get("datatype") or "-")
            self._add_size(self.operations, name, whole(operation["calls"]), operation.get("requested_bytes"))

    def _add_size(self, sums: Largest[Any], key: tuple[Any, ...], calls: int, size: object) -> None:
        """Add calls and bytes; unknown bytes are remembered, as they are not 0."""
        sums.add(key, calls, 0 if size is None else whole(size))
        if size is None and calls and len(self.unsized) < MOST_KEYS:
            self.unsized.add(tuple(map(str, key)))

    def add_interval(self, record: Record) -> None:
        """Add a nccl record."""
        calls, unattributed = whole(record["calls"]), whole(record["unattributed_calls"])
        self.calls += calls
        self.unattributed += unattributed

    def add_ras(self, record: Record) -> None:
        """Add a nccl_ras record."""
        name, skew = text(record["communicator"]), whole(record["skew"])
        missing = ", ".join(map(str, record["missing_ranks"][:MOST_REASONS]))
        if name not in self.skew and len(self.skew) >= MOST_FAILURES:
            return
        self.skew[name] = max(skew, self.skew.get(name, 0))
        if missing:
            self.missing[name] = missing
        else:
            self.missing.pop(name, None)

    def add_verdict(self, record: Record) -> None:
        """Add a verdict record."""
        rank = "all" if record["rank"] is None else str(whole(record["rank"]))
        key = text(record["communicator"]), rank, text(record["verdict"])
        evidence, job, function = (text(record[name] or "") for name in ("evidence", "job", "function"))
        if key in self.verdicts or len(self.verdicts) < MOST_FAILURES:
            times = self.verdicts.get(key, Verdict()).times + 1
            self.verdicts[key] = Verdict(times, job, function, evidence)

    @property
    def counted(self) -> Count:
        """Calls and bytes of all processes."""
        return self.processes.total()
