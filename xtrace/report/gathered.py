"""Everything that a report shows, gathered from records one by one."""

from __future__ import annotations

from collections.abc import Callable

from xtrace.report.connections import FollowedSums, TcpSums
from xtrace.report.interfaces import (
    DIRECTIONS,
    MOST_DETAILED,
    MOST_INTERFACES,
    InterfaceSums,
    Record,
    length_of,
    seconds_of,
    text,
)
from xtrace.report.jobs import MOST_PORTS, NcclSums, PortSums
from xtrace.report.reading import Problems

MOST_RUNS = 100
MOST_HOOKS = 100

Name = tuple[str, str]
"""Host and interface, or host and device/port."""


class Gathered:
    """Sums over all records. A record with a wrong field adds nothing; it is noted in `problems`."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.types: dict[str, int] = {}
        """records by type"""
        self.begin_s: float | None = None
        self.end_s: float | None = None
        self.starts: list[Record] = []
        self.runs = 0
        self.ends = 0
        self.left_out = 0
        """records of interfaces and ports beyond those with sums"""
        self.interfaces: dict[Name, InterfaceSums] = {}
        self.ports: dict[Name, PortSums] = {}
        self.hooks: dict[Name, tuple[bool, str]] = {}
        """what the last hook record of an interface says: attached, why not"""
        self.nccl = NcclSums()
        self.tcp = TcpSums()
        self.followed = FollowedSums()
        self._handlers: dict[str, Callable[[Record], None]] = {
            "start": self._start,
            "flow": lambda record: self._interface(record, InterfaceSums.add_flow),
            "other": lambda record: self._interface(record, InterfaceSums.add_other),
            "owner": lambda record: self._interface(record, InterfaceSums.add_owned),
            "interface": lambda record: self._interface(record, InterfaceSums.add_interval),
            "hook": self._hook,
            "end": self._end,
            "rdma_port": self._port,
            "nccl_process": self.nccl.add_process,
            "nccl_communicator": self.nccl.add_operations,
            "nccl_ras": self.nccl.add_ras,
            "nccl": self.nccl.add_interval,
            "verdict": self.nccl.add_verdict,
            "tcp_connection": self.tcp.add_connection,
            "tcp": self.tcp.add_sockets,
            "tcp_path": self.followed.add_connection,
            "tcp_paths": self.followed.add_interface,
        }

    def add(self, line: int, record: Record) -> None:
        """Add one record."""
        kind = record["type"]
        if kind not in self.types and len(self.types) >= MOST_RUNS:
            kind = "other types"
        self.types[kind] = self.types.get(kind, 0) + 1
        try:
            if "ts" in record:
                self._span(record)
            if handle := self._handlers.get(kind):
                handle(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problems.add(line, f"{kind} record: {type(error).__name__}: {error}"[:200])

    @property
    def unshown(self) -> dict[str, int]:
        """Types of records that the report has no section for."""
        known = {*self._handlers, "rdma_process", "rdma_qp", "rdma_rails", "nccl_rank"}
        return {kind: count for kind, count in self.types.items() if kind not in known}

    @property
    def open_sums(self) -> list[str]:
        """Interfaces and directions whose records do not add up."""
        return [
            f"{name[1]} {direction}"
            for name, sums in self.interfaces.items()
            for direction in DIRECTIONS
            if sums.ways[direction].intervals and not sums.ways[direction].is_closed
        ]

    def _span(self, record: Record) -> None:
        end = seconds_of(record["ts"])
        begin = end - length_of(record.get("interval_s")) if record["type"] not in ("start", "end") else end
        self.begin_s = begin if self.begin_s is None else min(self.begin_s, begin)
        self.end_s = end if self.end_s is None else max(self.end_s, end)

    def _start(self, record: Record) -> None:
        length_of(record.get("interval_s"))
        for word in (*record.get("modes", []), *record.get("filters", [])):
            text(word)
        self.runs += 1
        if len(self.starts) < MOST_RUNS:
            self.starts.append(record)

    def _end(self, record: Record) -> None:
        self.ends += 1

    def _interface(self, record: Record, add: Callable[[InterfaceSums, Record], None]) -> None:
        name = text(record.get("host", "?")), text(record["interface"])
        sums = self.interfaces.get(name)
        if sums is None:
            if len(self.interfaces) >= MOST_INTERFACES:
                self.left_out += 1
                return
            sums = self.interfaces[name] = InterfaceSums(len(self.interfaces) < MOST_DETAILED)
        add(sums, record)

    def _hook(self, record: Record) -> None:
        name = text(record.get("host", "?")), text(record["interface"])
        if name in self.hooks or len(self.hooks) < MOST_HOOKS:
            self.hooks[name] = bool(record["attached"]), text(record["detail"] or record["reason"] or "")

    def _port(self, record: Record) -> None:
        name = text(record.get("host", "?")), f"{text(record['device'])}/{record['port']}"
        if name not in self.ports and len(self.ports) >= MOST_PORTS:
            self.left_out += 1
            return
        self.ports.setdefault(name, PortSums()).add(record)
