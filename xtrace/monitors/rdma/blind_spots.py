"""RDMA traffic that mode xdp's hooks do not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xtrace.model.rdma import BlindSpot, PortId, PortRecord, Seen
from xtrace.model.words import Direction

WINDOW_NS = 30_000_000_000
"""Hooks and ports are not read at the same instant; over a short window that alone would look like a difference."""

SILENT_INTERVALS = 2
"""A hook that saw nothing at all in this many intervals with traffic is reported without waiting for the window."""

WORTH_REPORTING = 0.05
"""smaller parts may be measurement error"""

UNITS = ("bytes", "packets")

NOTHING = Seen(0, 0)


@dataclass
class _Window:
    """What a port and the hook have counted in one direction since the window began."""

    length_ns: int = 0
    busy: int = 0
    """intervals in which the port carried something"""
    carried: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(UNITS, 0))
    seen: Seen = NOTHING

    def add(self, record: PortRecord, direction: Direction, seen: Seen) -> None:
        """Add an interval. A unit that is unknown in one interval is unknown for the window."""
        self.length_ns += record.interval_ns or 0
        for unit in UNITS:
            before, delta = self.carried[unit], record.delta(f"{direction.rx_tx}_{unit}")
            self.carried[unit] = None if before is None or delta is None else before + delta
        self.busy += any(record.delta(f"{direction.rx_tx}_{unit}") for unit in UNITS)
        self.seen = Seen(self.seen.packets + seen.packets, self.seen.bytes + seen.bytes)

    @property
    def complete(self) -> bool:
        """Whether the window can be judged."""
        return self.length_ns >= WINDOW_NS or (self.busy >= SILENT_INTERVALS and not self.seen.packets)

    def spot(self, record: PortRecord, direction: Direction) -> BlindSpot | None:
        """The result in bytes, or in packets if the driver does not count bytes; None without traffic."""
        for unit, amount in (("bytes", self.seen.bytes), ("packets", self.seen.packets)):
            carried = self.carried[unit]
            if carried:
                return BlindSpot(record.id, record.info.netdev or "", direction, unit, carried, amount)
        return None


class BlindSpots:
    """Compares port and hook window by window; reports once per port and direction what is invisible."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._windows: dict[tuple[PortId, Direction], _Window] = {}
        self._latest: dict[tuple[PortId, Direction], BlindSpot] = {}
        self._reported: set[tuple[PortId, Direction]] = set()

    @property
    def reported(self) -> bool:
        """Whether anything was reported."""
        return bool(self._reported)

    def compare(
        self, records: Sequence[PortRecord], seen: Mapping[tuple[str, Direction], Seen]
    ) -> tuple[BlindSpot, ...]:
        """The results of the last complete windows. `seen`: by interface and direction of each hook."""
        return tuple(self._compare(records, seen))

    def _compare(
        self, records: Sequence[PortRecord], seen: Mapping[tuple[str, Direction], Seen]
    ) -> Iterator[BlindSpot]:
        for record in records:
            for direction in Direction:
                where = (record.id, direction)
                amount = seen.get((record.info.netdev or "", direction))
                if amount is None or record.interval_ns is None:
                    continue
                window = self._windows.setdefault(where, _Window())
                window.add(record, direction, amount)
                if window.complete:
                    self._judge(window, record, direction)
                    del self._windows[where]
                if where in self._latest:
                    yield self._latest[where]

    def _judge(self, window: _Window, record: PortRecord, direction: Direction) -> None:
        where = (record.id, direction)
        spot = window.spot(record, direction)
        if spot is None:
            self._latest.pop(where, None)
            return
        self._latest[where] = spot
        if spot.invisible >= WORTH_REPORTING and where not in self._reported:
            self._reported.add(where)
            self._report(str(spot))
