"""Sums of mode xdp: per interface its totals, rates over time, flows, pairs of hosts, types and ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from xtrace.printable import with_port
from xtrace.report.sums import NOTHING, Count, Largest, Series

MOST_DETAILED = 12
"""Interfaces with sums of flows; later ones have totals and rates only."""
MOST_INTERFACES = 256
"""Interfaces with anything; the records of later ones are counted as left out."""
LAST_S = 253_370_764_800
"""Seconds from the epoch to the year 9999, the last that dates have."""
LONGEST_S = 366 * 86_400
"""A slow reader makes an interval longer than an hour; nothing makes it longer than this."""
DIRECTIONS = ("ingress", "egress")

DETAILS = ("icmp_type", "icmp_code", "vlan", "inner_vlan", "tunnel", "vni", "ethertype")
"""Fields that distinguish flows with the same ends."""

NOBODY = {"kernel": "the kernel's own", "not_local": "not of this host's sockets", "unknown": "not known"}
"""What is said of flows without a process."""
GROUPS = ("pod_name", "pod", "container_name", "container", "unit", "cgroup")
"""Fields that say where a process belongs; the first that there is."""

Record = dict[str, Any]


class Flow(NamedTuple):
    """What identifies a flow over the run."""

    direction: str
    source: str
    destination: str
    traffic_type: str
    detail: str
    """ICMP type, opcode, VLAN, fragment"""


class Service(NamedTuple):
    """A port that one side has in common for many flows: the lower of both."""

    traffic_type: str
    port: int


class Owner(NamedTuple):
    """Whose a flow is: its process, or why there is none; and the container, pod or unit that is in."""

    name: str
    group: str


@dataclass
class Way:
    """One direction of an interface."""

    total: Count = NOTHING
    shown: Count = NOTHING
    """of all flow records"""
    other: Count = NOTHING
    unattributed: Count = NOTHING
    filtered: Count = NOTHING
    fragments: Count = NOTHING
    """later fragments whose ports were not known, so that no filter could decide"""
    intervals: int = 0
    open_intervals: int = 0
    """whose sums do not close"""
    covered_s: float = 0.0
    rates: Series = field(default_factory=Series)
    coverage: dict[str, int] = field(default_factory=dict)
    """intervals by coverage, without `full` and unknown"""
    down: int = 0
    """intervals in which it was down"""
    qdisc_drops: int = 0
    hook: str = ""
    frames: bool = False
    """whether merged packets may have counted once"""
    pending: Count = NOTHING
    """flows and other since the last interface record"""

    @property
    def is_closed(self) -> bool:
        """Whether everything adds up to the total."""
        parts = (self.shown, self.other, self.unattributed, self.filtered, self.fragments)
        return not self.open_intervals and self.total == Count(*map(sum, zip(*parts, strict=True)))


class InterfaceSums:
    """One interface of one host."""

    def __init__(self, detailed: bool) -> None:
        self.ways = {direction: Way() for direction in DIRECTIONS}
        self.is_detailed = detailed
        self.flows: Largest[Flow] = Largest()
        self.pairs: Largest[tuple[str, str]] = Largest()
        self.types: Largest[str] = Largest()
        self.services: Largest[Service] = Largest()
        self.owners: Largest[Owner] = Largest()

    @property
    def bytes(self) -> int:
        """Bytes of both directions."""
        return sum(way.total.bytes for way in self.ways.values())

    def add_flow(self, record: Record) -> None:
        """Add a flow record."""
        packets, size = whole(record["packets"]), whole(record["bytes"])
        way = self.ways[record["direction"]]
        kind = text(record["traffic_type"])
        source, destination = (address(record.get(name)) for name in ("src_ip", "dst_ip"))
        ends = endpoints(record, source, destination)
        detail = details(record)
        port = service_port(record)
        way.shown = way.shown.plus(packets, size)
        way.pending = way.pending.plus(packets, size)
        way.frames = way.frames or record.get("units") == "frame"
        if not self.is_detailed:
            return
        self.flows.add(Flow(record["direction"], *ends, kind, detail), packets, size)
        self.pairs.add((source, destination), packets, size)
        self.types.add(kind, packets, size)
        if port:
            self.services.add(Service(kind, port), packets, size)
        self._add_owner(record, packets, size)

    def add_owned(self, record: Record) -> None:
        """Add the flows of an owner that are not told apart."""
        self.add_other(record)
        if self.is_detailed:
            self._add_owner(record, whole(record["packets"]), whole(record["bytes"]))

    def _add_owner(self, record: Record, packets: int, size: int) -> None:
        found = owner(record)
        if found:
            self.owners.add(found, packets, size)

    def add_other(self, record: Record) -> None:
        """Add the sum of the flows that --top left out."""
        packets, size = whole(record["packets"]), whole(record["bytes"])
        way = self.ways[record["direction"]]
        way.other = way.other.plus(packets, size)
        way.pending = way.pending.plus(packets, size)

    def add_interval(self, record: Record) -> None:
        """Add an interface record, which ends the interval of its direction."""
        way = self.ways[record["direction"]]
        total = Count(whole(record["packets"]), whole(record["bytes"]))
        lost = [
            Count(whole(record[f"{name}_packets"]), whole(record[f"{name}_bytes"]))
            for name in ("unattributed", "filtered")
        ]
        # only where there are any
        lost.append(Count(*(whole(record.get(f"filtered_fragment_{unit}") or 0) for unit in ("packets", "bytes"))))
        end, seconds = seconds_of(record["ts"]), length_of(record["interval_s"])
        parts = (way.pending, *lost)
        way.open_intervals += Count(*(sum(column) for column in zip(*parts, strict=True))) != total
        way.pending = Count()
        way.intervals += 1
        way.covered_s += seconds
        way.total = way.total.plus(*total)
        way.unattributed = way.unattributed.plus(*lost[0])
        way.filtered = way.filtered.plus(*lost[1])
        way.fragments = way.fragments.plus(*lost[2])
        way.rates.add(end, seconds, 8 * total.bytes)
        coverage = record.get("coverage")
        if coverage not in (None, "full"):
            way.coverage[text(coverage)] = way.coverage.get(text(coverage), 0) + 1
        way.down += record.get("up") is False
        way.qdisc_drops += whole(record.get("qdisc_drops") or 0)
        way.hook = " ".join(text(word) for word in (record.get("hook"), record.get("xdp_mode")) if word)


def owner(record: Record) -> Owner | None:
    """Return whose the traffic of a record is; None if nobody asked."""
    pid, how = record.get("pid"), record.get("owner")
    if pid is None and how is None:
        return None
    name = NOBODY.get(text(how), "process not known") if pid is None else f"{record.get('command') or '?'} (pid {pid})"
    groups = (record.get(field) for field in GROUPS)
    return Owner(name[:256], text(next(filter(None, groups), "")))


def whole(value: object) -> int:
    """Return a count. Raises TypeError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a count")
    return value


def text(value: object) -> str:
    """Return a text of bounded length. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value[:256]


def seconds_of(timestamp: object) -> float:
    """Return seconds since the epoch of an RFC 3339 time. Raises TypeError, ValueError."""
    seconds = datetime.fromisoformat(text(timestamp).replace("Z", "+00:00")).timestamp()
    if not 0 <= seconds < LAST_S:
        raise ValueError(f"{timestamp!r} is not a time of a run")
    return seconds


def length_of(interval_s: object) -> float:
    """Return the length of an interval, 0 if it is not known. Raises TypeError, ValueError for what cannot be one."""
    if interval_s is None:
        return 0.0
    if not isinstance(interval_s, int | float) or isinstance(interval_s, bool):
        raise TypeError(f"{interval_s!r} is not a length")
    if not 0 <= interval_s <= LONGEST_S:
        raise ValueError(f"{interval_s!r} is not the length of an interval")
    return float(interval_s)


def address(value: object) -> str:
    """Return an address, `-` for frames without."""
    return "-" if value is None else text(value)


def endpoints(record: Record, source: str, destination: str) -> tuple[str, str]:
    """Return both ends with their ports or queue pairs."""
    if "dst_qpn" in record:
        number = record.get("src_qpn")
        return f"{source} qp {'?' if number is None else number}", f"{destination} qp {record['dst_qpn']}"
    ports = record.get("src_port"), record.get("dst_port")
    if not any(ports):
        return source, destination
    return with_port(source, ports[0]), with_port(destination, ports[1])


def details(record: Record) -> str:
    """Return what distinguishes flows besides their ends."""
    parts = [text(record["opcode_name"])] if "opcode_name" in record else []
    parts += [f"{name}={record[name]}" for name in DETAILS if name in record]
    parts += ["fragment"] if record.get("fragment") else []
    return " ".join(parts)[:256]


def service_port(record: Record) -> int:
    """Return the lower of two ports, 0 without ports."""
    ports = [port for port in (record.get("src_port"), record.get("dst_port")) if isinstance(port, int) and port]
    return min(ports, default=0)
