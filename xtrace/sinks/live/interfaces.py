"""The pane of interfaces: what each carried in both directions, and what of it is in no flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from xtrace.model.flow import FlowSnapshot, Interface, InterfaceCounts
from xtrace.model.words import Direction, Health, Share
from xtrace.sinks.live.flows import interface_rates
from xtrace.sinks.live.history import History
from xtrace.sinks.live.listed import Listed, Sorting
from xtrace.sinks.live.pane import NOT_KNOWN, STYLES, Column, Detail, Row, Series, View, frequency
from xtrace.sinks.text.columns import remarks

RATE, PACKETS, NAME = "rate", "packets", "name"


class Way(NamedTuple):
    """One direction of an interface in one interval."""

    interface: Interface
    counts: InterfaceCounts
    seconds: float
    flows: int


class Watched(NamedTuple):
    """An interface."""

    name: str
    is_up: bool
    ways: Mapping[Direction, Way]

    @property
    def rate(self) -> float:
        """Bytes per second of both directions."""
        return sum(way.counts.total.bytes / way.seconds for way in self.ways.values())

    @property
    def packets(self) -> int:
        """Packets of both directions."""
        return sum(way.counts.total.packets for way in self.ways.values())


SORTING = {
    RATE: Sorting(lambda each: each.rate),
    PACKETS: Sorting(lambda each: each.packets),
    NAME: Sorting(lambda each: each.name, is_descending=False),
}


class InterfacePane(Listed[Watched]):
    """A row per interface."""

    title = "interfaces"
    mode = "xdp"

    def __init__(self) -> None:
        super().__init__(SORTING)
        self._history: History[tuple[str, Direction]] = History()
        self._snapshot: FlowSnapshot | None = None

    def note(self, snapshot: FlowSnapshot) -> None:
        """Keep the bytes of each direction."""
        self._history.begin(snapshot.interval_ns / 1e9)
        for interface, counts in snapshot.interfaces:
            self._history.add((interface.name, interface.direction), counts.total.bytes)

    def take(self, snapshot: FlowSnapshot) -> None:
        """Show this interval from now on."""
        self._snapshot = snapshot
        blocks = groupby(snapshot.interfaces, key=lambda watched: watched[0].slot)
        self.listed = [_watched(snapshot, list(block)) for _, block in blocks]

    def matches(self, entry: Watched, view: View) -> bool:
        """Return whether its name is wanted."""
        return view.chosen.named(entry.name)

    def summary(self, view: View) -> str:
        """Return what is selected and not monitored, else the rates of the busiest."""
        if self._snapshot is None:
            return ""
        absent = [f"{each.name}: {each.detail}" for each in self._snapshot.unattached if each.is_wanted]
        return f"not monitored: {', '.join(absent)}" if absent else interface_rates(self._snapshot, view)

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns of the directions that are shown."""
        return (
            Column("INTERFACE", order=NAME),
            *(
                column
                for way in Direction
                if view.shows(way)
                for column in (
                    Column(f"{way.in_out.upper()} {view.rate_heading}", is_number=True, order=RATE),
                    Column("PACKETS/S", is_number=True, order=PACKETS),
                    Column("FLOWS", is_number=True),
                )
            ),
            Column(""),
        )

    def row(self, entry: Watched, view: View) -> Row:
        """Return its rates, and what is special about it."""
        cells = [entry.name]
        for direction in Direction:
            if view.shows(direction):
                cells += _rates(entry.ways.get(direction), view)
        words = [] if entry.is_up else ["down or without carrier"]
        words += [said for way in entry.ways.values() if view.shows(way.interface.direction) for said in _said(way)]
        return Row([*cells, "; ".join(words)], STYLES[Health.WARN] if words else "")

    def key(self, entry: Watched) -> str:
        """Return its name."""
        return entry.name

    def detail(self, key: str, view: View) -> Detail:
        """Return its counts by direction."""
        found = next((entry for entry in self.listed if entry.name == key), None)
        series = []
        for direction in Direction:
            rates = self._history.rates((key, direction))
            if rates and view.shows(direction):
                series.append(Series(f"{direction.in_out:3}", rates, self._history.span_s(len(rates))))
        return Detail(list(_lines(found, view)) if found else [f"{key} is not monitored now"], series)


def _watched(snapshot: FlowSnapshot, block: Sequence[tuple[Interface, InterfaceCounts]]) -> Watched:
    ways = {
        interface.direction: Way(
            interface,
            counts,
            (counts.interval_ns or snapshot.interval_ns) / 1e9,
            len(snapshot.flows.indexes(interface.slot, interface.direction)),
        )
        for interface, counts in block
    }
    return Watched(block[0][0].name, block[0][0].is_up, ways)


def _rates(way: Way | None, view: View) -> tuple[str, str, str]:
    if way is None:
        return (NOT_KNOWN,) * 3
    total = way.counts.total
    return view.rate(total.bytes / way.seconds), frequency(total.packets / way.seconds), str(way.flows)


def _said(way: Way) -> Iterator[str]:
    """Yield what is worth a word in the table."""
    word = way.interface.direction.in_out
    for name, count in way.counts.in_no_flow.items():
        if count.packets:
            yield f"{word} {name} {count.packets}"
    if way.counts.coverage not in (None, Share.FULL):
        yield f"{word} coverage {way.counts.coverage}"
    if way.counts.qdisc_drops:
        yield f"{word} dropped by the queue {way.counts.qdisc_drops}"


def _lines(entry: Watched, view: View) -> Iterator[str]:
    """Yield the exact counts of an interface."""
    yield entry.name if entry.is_up else f"{entry.name}, down or without carrier"
    for direction, way in entry.ways.items():
        if view.shows(direction):
            total = way.counts.total
            hook = f"{way.interface.hook}{f' {way.interface.xdp_mode}' if way.interface.xdp_mode else ''}"
            yield (
                f"{direction.in_out:3} {view.words(total.bytes / way.seconds)}, {total.bytes} bytes,"
                f" {total.packets} packets in {way.seconds:.1f} s, {remarks(way.counts, way.flows)} (at {hook})"
            )
