"""RDMA ports as every part of the tool sees them: what was read, what it means, one interval's snapshot.

Plain data and arithmetic, no I/O. What the drivers' counters are called is rdma_counters.py's business,
what is good or bad rdma_health.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from xtrace.model.snapshot import Snapshot
from xtrace.model.words import Direction, Word

Status = Literal["first", "ok", "wrapped", "reset", "saturated", "unavailable", "gauge"]
"""What a counter's figure is worth.

first        read for the first time, or again after it could not be: a total, nothing of this interval to subtract from
ok           grew by `delta`
wrapped      a 32-bit counter went past its end; `delta` is right
reset        smaller than before for another reason; how much it grew is not known
saturated    stands at its maximum, where the hardware keeps it: nothing more is counted
unavailable  could not be read; `reason` says why
gauge        a level, which goes up and down
"""

RESET: Final = "reset"
SATURATED: Final = "saturated"
UNAVAILABLE: Final = "unavailable"
FIRST: Final = "first"
GAUGE: Final = "gauge"


class Health(Word):
    """How well a port is, best first."""

    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 is the best."""
        return tuple(Health).index(self)


class Reading(NamedTuple):
    """One counter in one interval. `total` and `delta` are None where they are not known, never 0 instead."""

    total: int | None
    """since the driver was loaded, or its last reset, with 32-bit wraps added"""
    delta: int | None
    """in this interval"""
    status: Status
    reason: str = ""


class Figure(NamedTuple):
    """One or more counters of a driver under the name that is the same for all drivers."""

    reading: Reading
    names: tuple[str, ...]
    """what the driver calls them"""


@dataclass(frozen=True)
class PortId:
    """A port by the names people use: `mlx5_0`, 1."""

    device: str
    port: int

    def __str__(self) -> str:
        return f"{self.device}/{self.port}"


@dataclass(frozen=True)
class PortInfo:
    """What a port is, and how it stands. None where it is not known."""

    state: str | None = None
    """ACTIVE, DOWN, INIT, ARMED, or what the driver writes"""
    physical_state: str | None = None
    """LINK_UP, POLLING, DISABLED"""
    link_layer: str | None = None
    """Ethernet or InfiniBand"""
    rate: str | None = None
    """as the driver writes it: `100 Gb/sec (4X EDR)`"""
    rate_bps: int | None = None
    """bits per second"""
    netdev: str | None = None
    driver: str | None = None
    firmware: str | None = None
    pci: str | None = None
    numa_node: int | None = None
    lid: int | None = None
    is_function: bool = False
    """whether it is one of the virtual functions of another device of this machine (SR-IOV)"""

    @property
    def is_active(self) -> bool:
        """Whether it carries traffic."""
        return self.state == "ACTIVE"

    @property
    def is_down(self) -> bool:
        """Whether it is known to carry none."""
        return self.state is not None and not self.is_active


@dataclass(frozen=True)
class PortRecord:
    """One port in one interval."""

    id: PortId
    info: PortInfo
    interval_ns: int | None
    """between this port's own readings; None at its first"""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """by the names of rdma_counters.FIGURES"""
    hardware: Mapping[str, Reading] = field(default_factory=dict)
    """hw_counters, by the driver's names"""
    standard: Mapping[str, Reading] = field(default_factory=dict)
    """counters, by the names of sysfs"""
    ethernet: Mapping[str, Reading] = field(default_factory=dict)
    """of its netdev: pause and physical counters, by the driver's names"""
    unavailable: str = ""
    """why nothing could be read of it; "" where something was"""
    uncounted: str = ""
    """why there is no figure although nothing failed; "" if there is one"""
    gone: bool = False
    """whether it was there in this run, and is not now"""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Whether any figure of it could be read."""
        lacking = self.unavailable or self.uncounted
        return not lacking and any(figure.reading.status != UNAVAILABLE for figure in self.figures.values())

    def delta(self, name: str) -> int | None:
        """How much a figure grew; None where that is not known."""
        found = self.figures.get(name)
        return found.reading.delta if found else None

    def total(self, name: str) -> int | None:
        """What a figure stands at; None where that is not known."""
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
        """Part of the line rate that a direction used, 0 to 1; more where the rate is told wrong."""
        rate = self.bit_rate(direction)
        return None if rate is None or not self.info.rate_bps else rate / self.info.rate_bps

    def per_million(self, name: str, direction: Direction) -> float | None:
        """A figure's growth per million packets of a direction; None without packets."""
        delta, packets = self.delta(name), self.delta(f"{direction.rx_tx}_packets")
        return None if delta is None or not packets else delta * 1e6 / packets


class Process(NamedTuple):
    """Who owns a queue pair, as far as it is known."""

    pid: int | None
    """thread group id, in the reader's pid namespace"""
    command: str
    container: str | None = None


@dataclass(frozen=True)
class QueuePairRecord:
    """A queue pair as it was last seen."""

    id: PortId
    number: int
    type: str
    state: str
    remote: int | None
    process: Process
    remote_address: str | None = None
    """where RDMA-CM connected it to"""


@dataclass(frozen=True)
class QueuePairs:
    """All queue pairs, as one round of asking found them."""

    records: tuple[QueuePairRecord, ...] = ()
    end_ns: int = 0
    """wall clock at the end of the round; 0: none has ended yet"""
    errors: tuple[str, ...] = ()
    """devices that could not be asked, and why"""


@dataclass(frozen=True)
class Rails:
    """How evenly the active ports of a host carry traffic."""

    ports: int
    """active ports with known bytes"""
    imbalance: float | None
    """bytes of the busiest port by the mean of all; None without traffic, or fewer than two ports"""
    idle: tuple[PortId, ...] = ()
    """active, without traffic while others had some"""
    down: tuple[PortId, ...] = ()
    """not ACTIVE, or gone"""
    unavailable: tuple[PortId, ...] = ()
    """nothing of them can be read: gone, or unreadable"""
    health: Health = Health.OK
    reasons: tuple[str, ...] = ()


class Seen(NamedTuple):
    """RoCE traffic that a hook saw on an interface in one direction."""

    packets: int
    bytes: int


@dataclass(frozen=True)
class BlindSpot:
    """What a netdev's hook saw of its RDMA port's traffic in one direction."""

    id: PortId
    netdev: str
    direction: Direction
    unit: str
    """bytes, or packets where the driver does not count bytes"""
    carried: int
    """by the hardware"""
    seen: int
    """by the hook; in bytes it counts link headers too, and so a little more"""

    @property
    def invisible(self) -> float:
        """Part of what the hardware carried that the hook did not see, 0 to 1."""
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
    """with mode xdp, for ports whose netdev it watches"""
    every_queue_pair: bool = False
    """whether --qps asks for each"""
