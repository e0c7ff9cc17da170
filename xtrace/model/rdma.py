"""RDMA ports, readings, queue pairs, and the snapshot of one interval.

Plain data and arithmetic, no I/O. Names of drivers' counters are in rdma_counters.py, verdicts in rdma_health.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from xtrace.model.snapshot import Snapshot
from xtrace.model.words import Direction, Health

Status = Literal["first", "ok", "wrapped", "reset", "saturated", "unavailable", "gauge"]
"""What a reading means.

first        read for the first time, or again after failed reads: a total, but nothing to subtract
ok           grew by `delta`
wrapped      a 32-bit counter wrapped around; `delta` is correct
reset        smaller than before for another reason, or set to another value; its growth is unknown
saturated    at its maximum, where the hardware stops counting
unavailable  could not be read, or has an impossible value; `reason` gives the cause
gauge        a level, which goes up and down
"""

RESET: Final = "reset"
SATURATED: Final = "saturated"
UNAVAILABLE: Final = "unavailable"
FIRST: Final = "first"
GAUGE: Final = "gauge"


class Reading(NamedTuple):
    """One counter in one interval. `total` and `delta` are None if unknown, never 0."""

    total: int | None
    """since the driver was loaded or the counter was reset, with 32-bit wraps added"""
    delta: int | None
    """in this interval"""
    status: Status
    reason: str = ""


class Figure(NamedTuple):
    """One or more counters of a driver under the name common to all drivers."""

    reading: Reading
    names: tuple[str, ...]
    """the driver's names"""


@dataclass(frozen=True)
class PortId:
    """A port: `mlx5_0`, 1."""

    device: str
    port: int

    def __str__(self) -> str:
        return f"{self.device}/{self.port}"


@dataclass(frozen=True)
class PortInfo:
    """Description and state of a port. None: not known."""

    state: str | None = None
    """ACTIVE, DOWN, INIT, ARMED, or other text of the driver"""
    physical_state: str | None = None
    """LINK_UP, POLLING, DISABLED"""
    link_layer: str | None = None
    """Ethernet or InfiniBand"""
    rate: str | None = None
    """in the driver's words: `100 Gb/sec (4X EDR)`"""
    rate_bps: int | None = None
    """bits per second"""
    netdev: str | None = None
    driver: str | None = None
    firmware: str | None = None
    pci: str | None = None
    numa_node: int | None = None
    lid: int | None = None
    is_function: bool = False
    """whether it is a virtual function of another device of this machine (SR-IOV)"""

    @property
    def is_active(self) -> bool:
        """Whether it carries traffic."""
        return self.state == "ACTIVE"

    @property
    def is_down(self) -> bool:
        """Whether its state is known and not ACTIVE."""
        return self.state is not None and not self.is_active


@dataclass(frozen=True)
class PortRecord:
    """One port in one interval."""

    id: PortId
    info: PortInfo
    interval_ns: int | None
    """between this port's readings; None for the first one"""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """by their names in rdma_counters.FIGURES"""
    hardware: Mapping[str, Reading] = field(default_factory=dict)
    """hw_counters, by the driver's names"""
    standard: Mapping[str, Reading] = field(default_factory=dict)
    """counters, by sysfs's names"""
    ethernet: Mapping[str, Reading] = field(default_factory=dict)
    """its netdev's pause and physical counters, by the driver's names"""
    unavailable: str = ""
    """why nothing could be read of it; "" if something was"""
    uncounted: str = ""
    """why there is no figure although nothing failed; "" if there is one"""
    gone: bool = False
    """whether it disappeared during this run, or was named with -d and not found"""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Whether any figure could be read."""
        lacking = self.unavailable or self.uncounted
        return not lacking and any(figure.reading.status != UNAVAILABLE for figure in self.figures.values())

    def delta(self, name: str) -> int | None:
        """How much a figure grew; None if unknown."""
        found = self.figures.get(name)
        return found.reading.delta if found else None

    def total(self, name: str) -> int | None:
        """A figure's total; None if unknown."""
        found = self.figures.get(name)
        return found.reading.total if found else None

    def per_second(self, name: str) -> float | None:
        """A figure's growth per second."""
        delta = self.delta(name)
        return None if delta is None or not self.interval_ns else delta * 1e9 / self.interval_ns

    def bit_rate(self, direction: Direction) -> float | None:
        """Bits per second."""
        rate = self.per_second(f"{direction.rx_tx}_bytes")
        return None if rate is None else 8 * rate

    def share(self, direction: Direction) -> float | None:
        """Part of the line rate that a direction used, 0 to 1; above 1 if the driver reports a wrong rate."""
        rate = self.bit_rate(direction)
        return None if rate is None or not self.info.rate_bps else rate / self.info.rate_bps

    def per_million(self, name: str, direction: Direction) -> float | None:
        """A figure's growth per million packets of a direction; None without packets."""
        delta, packets = self.delta(name), self.delta(f"{direction.rx_tx}_packets")
        return None if delta is None or not packets else delta * 1e6 / packets


class Process(NamedTuple):
    """The owner of a queue pair, as far as known."""

    pid: int | None
    """thread group id, in the reader's pid namespace"""
    command: str
    container: str | None = None


@dataclass(frozen=True)
class QueuePairRecord:
    """A queue pair when it was last read."""

    id: PortId
    number: int
    type: str
    state: str
    remote: int | None
    process: Process
    remote_address: str | None = None
    """the remote address, if RDMA-CM connected it"""


@dataclass(frozen=True)
class QueuePairs:
    """All queue pairs of one round of reading."""

    records: tuple[QueuePairRecord, ...] = ()
    end_ns: int = 0
    """wall clock at the end of the round; 0: no round has ended yet"""
    errors: tuple[str, ...] = ()
    """devices that could not be read, and why"""


@dataclass(frozen=True)
class Rails:
    """How evenly the active ports of a host carry traffic."""

    ports: int
    """active ports with known bytes"""
    imbalance: float | None
    """bytes of the busiest port divided by the mean of all; None without traffic or with fewer than two ports"""
    idle: tuple[PortId, ...] = ()
    """active ports without traffic while others had some"""
    down: tuple[PortId, ...] = ()
    """not ACTIVE, or gone"""
    unavailable: tuple[PortId, ...] = ()
    """gone or unreadable"""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()


class Seen(NamedTuple):
    """RoCE traffic that a hook saw on one interface in one direction."""

    packets: int
    bytes: int


@dataclass(frozen=True)
class BlindSpot:
    """How much of an RDMA port's traffic in one direction its netdev's hook saw."""

    id: PortId
    netdev: str
    direction: Direction
    unit: str
    """bytes, or packets if the driver does not count bytes"""
    carried: int
    """by the hardware"""
    seen: int
    """by the hook; its bytes include link headers and are slightly more"""

    @property
    def invisible(self) -> float:
        """Part of the hardware's traffic that the hook did not see, 0 to 1."""
        return max(0.0, 1 - self.seen / self.carried) if self.carried else 0.0

    def __str__(self) -> str:
        way = "sent" if self.direction is Direction.EGRESS else "received"
        return (
            f"{100 * self.invisible:.0f} % of what {self.id} {way} is invisible on {self.netdev}:"
            " offloaded to hardware; -m rdma shows it"
        )


@dataclass(frozen=True)
class RdmaSnapshot(Snapshot):
    """One tick of mode rdma."""

    mode = "rdma"

    ports: tuple[PortRecord, ...] = ()
    queue_pairs: QueuePairs = QueuePairs()
    rails: Rails = Rails(0, None)
    blind_spots: tuple[BlindSpot, ...] = ()
    """with mode xdp, for ports on its interfaces"""
    every_queue_pair: bool = False
    """whether to show each one (--qps)"""
