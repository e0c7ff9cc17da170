"""The pane of RDMA ports: rates, what congestion and loss grew by, health."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xtrace.model.rdma import PortId, PortRecord, RdmaSnapshot
from xtrace.model.rdma_counters import CONGESTION, LOSS
from xtrace.model.words import Direction
from xtrace.sinks.live.history import History
from xtrace.sinks.live.listed import Listed, Sorting
from xtrace.sinks.live.pane import NOT_KNOWN, STYLES, Column, Detail, Row, Series, View
from xtrace.sinks.text.rdma import port_lines

RATE, HEALTH, NAME = "rate", "health", "name"


def _rate(record: PortRecord) -> float:
    """Return the bits per second of both directions, as far as known."""
    return sum(record.bit_rate(direction) or 0.0 for direction in Direction)


SORTING = {
    RATE: Sorting(_rate),
    HEALTH: Sorting(lambda record: (record.health.rank, _rate(record))),
    NAME: Sorting(lambda record: str(record.id), is_descending=False),
}


class PortPane(Listed[PortRecord]):
    """A row per port."""

    title = "RDMA ports"
    mode = "rdma"

    def __init__(self) -> None:
        super().__init__(SORTING)
        self._history: History[tuple[PortId, Direction]] = History()
        self._snapshot: RdmaSnapshot | None = None

    def note(self, snapshot: RdmaSnapshot) -> None:
        """Keep the bytes of each direction, where they are known."""
        self._history.begin(snapshot.interval_ns / 1e9)
        for record in snapshot.ports:
            for direction in Direction:
                size = record.delta(f"{direction.rx_tx}_bytes")
                if size is not None:
                    self._history.add((record.id, direction), size)

    def take(self, snapshot: RdmaSnapshot) -> None:
        """Show this interval from now on."""
        self._snapshot, self.listed = snapshot, snapshot.ports

    def matches(self, entry: PortRecord, view: View) -> bool:
        """Return whether its device, its name or its interface is wanted."""
        return view.chosen.named(entry.id.device, str(entry.id), entry.info.netdev)

    def summary(self, view: View) -> str:
        """Return `8 active ports, imbalance 1.02, idle mlx5_3/1`."""
        if self._snapshot is None:
            return ""
        rails = self._snapshot.rails
        words = [f"active ports with traffic counters: {rails.ports}"]
        words += [] if rails.imbalance is None else [f"imbalance {rails.imbalance:.2f}"]
        for name, ports in (("idle", rails.idle), ("down", rails.down), ("unavailable", rails.unavailable)):
            words += [f"{name} {' '.join(map(str, ports))}"] if ports else []
        return ", ".join(words)

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns."""
        return (
            Column("PORT", order=NAME),
            *(
                column
                for way in Direction
                if view.shows(way)
                for column in (Column(f"{way.rx_tx.upper()} {view.rate_heading}", True, RATE), Column("%", True))
            ),
            Column("CONGESTION", True),
            Column("LOSS", True),
            Column("STATE"),
            Column("HEALTH", order=HEALTH),
            Column(""),
        )

    def row(self, entry: PortRecord, view: View) -> Row:
        """Return its figures; those that are not known are no zeros."""
        return Row(
            [
                str(entry.id),
                *(cell for way in Direction if view.shows(way) for cell in _rate_cells(entry, way, view)),
                _grown(entry, CONGESTION),
                _grown(entry, LOSS),
                entry.info.state or NOT_KNOWN,
                entry.health,
                "; ".join(entry.reasons) or entry.info.netdev or "",
            ],
            STYLES.get(entry.health, ""),
        )

    def key(self, entry: PortRecord) -> PortId:
        """Return device and port."""
        return entry.id

    def detail(self, key: PortId, view: View) -> Detail:
        """Return all that text output says of the port."""
        found = next((record for record in self.listed if record.id == key), None)
        series = []
        for direction in Direction:
            rates = self._history.rates((key, direction))
            if rates and view.shows(direction):
                series.append(Series(direction.rx_tx, rates, self._history.span_s(len(rates))))
        if found is None or self._snapshot is None:
            return Detail([f"{key} is not there now"], series)
        clock = time.strftime("%H:%M:%S", time.localtime(self._snapshot.end_ns / 1e9))
        return Detail([line.rstrip("\n") for line in port_lines(found, clock)], series)


def _rate_cells(record: PortRecord, direction: Direction, view: View) -> tuple[str, str]:
    """Return the rate of a direction, and how much of the line rate that is."""
    rate, share = record.per_second(f"{direction.rx_tx}_bytes"), record.share(direction)
    return view.rate(rate), NOT_KNOWN if share is None else f"{100 * share:.0f}"


def _grown(record: PortRecord, names: Sequence[str]) -> str:
    """Return by how much counters grew, those that are known."""
    known = [delta for name in names if (delta := record.delta(name)) is not None]
    return str(sum(known)) if known else NOT_KNOWN
