"""The pane of flows: the largest of all interfaces and directions."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot, FlowTable, Interface
from xtrace.model.flow_owners import FlowOwner
from xtrace.model.owner_rows import OwnerRow
from xtrace.model.words import Direction
from xtrace.sinks.flow_lines import flow_details
from xtrace.sinks.live.history import History
from xtrace.sinks.live.pane import Column, Detail, Row, Series, View, frequency
from xtrace.sinks.render import tcp_flag_names
from xtrace.sinks.text.columns import ARROW, flow_row
from xtrace.sinks.text.flows import owner_words

LISTED = 1000
"""Flows that can be scrolled through."""
REMEMBERED = 250
"""Flows of an interval whose history begins with it."""
FROZEN = 10_000
"""Flows that stay while the screen is paused."""

RATE, PACKETS, SOURCE, DESTINATION = "rate", "packets", "source", "destination"
ADDRESS = 16
"""Bytes of an address, with which a key begins: the source's, then the destination's."""


FlowId = tuple[str, bytes]
"""Interface, and struct flow_key, which has the direction."""


class Watched(NamedTuple):
    """An interface in one direction."""

    interface: Interface
    seconds: float


Part = tuple[Watched, OwnerRow]
"""What an owner's flows carried across an interface in one direction."""


class Shown(NamedTuple):
    """The interval on the screen."""

    snapshot: FlowSnapshot
    watched: Mapping[tuple[int, int], Watched]
    """by slot and direction, as keys have them"""
    flows: int
    """all of the interval, also those that the snapshot has no more"""

    @classmethod
    def of(cls, snapshot: FlowSnapshot) -> Shown:
        """Return a whole interval."""
        watched = {
            (interface.slot, interface.direction.bit): Watched(
                interface, (counts.interval_ns or snapshot.interval_ns) / 1e9
            )
            for interface, counts in snapshot.interfaces
        }
        return cls(snapshot, watched, len(snapshot.flows))

    @property
    def table(self) -> FlowTable:
        """The flows that can be shown."""
        return self.snapshot.flows

    def of_flow(self, flow: FlowRecord) -> Watched:
        """Return where a flow was seen."""
        return self.watched[flow.key.slot, flow.key.flags & EGRESS]

    def parts(self, rows: Iterable[OwnerRow]) -> Sequence[Part]:
        """Return sums of flows, and where each was seen."""
        return [(self.watched[row.slot, row.egress], row) for row in rows]

    def key(self, index: int) -> FlowId:
        """Return what tells a flow from all others, in later intervals too: slots may be another interface's then."""
        slot = self.table[index].key.slot
        name = next(each.interface.name for place, each in self.watched.items() if place[0] == slot)
        return name, self.table.packed_key(index)

    def find(self, key: FlowId) -> int | None:
        """Return the index of the flow with that key; None if the interval has none."""
        for index, packed in enumerate(self.table.packed_keys()):
            if packed == key[1] and self.key(index) == key:
                return index
        return None

    @property
    def has_several(self) -> bool:
        """Whether there is more than one interface."""
        return len({each.interface.name for each in self.watched.values()}) > 1

    def largest(self, number: int) -> list[int]:
        """Return the indexes of the largest flows by bytes, in order."""
        return [*self.table.largest(range(len(self.table)), number)]

    def frozen(self) -> Shown:
        """Return the largest flows in memory of their own: the next tick overwrites the table."""
        kept = self.table.copied(self.largest(FROZEN))
        return self._replace(snapshot=replace(self.snapshot, flows=kept))


class FlowPane:
    """Decodes only the rows on the screen from the table, which may have very many flows."""

    title = "flows"
    mode = "xdp"
    orders = (RATE, PACKETS, SOURCE, DESTINATION)

    def __init__(self) -> None:
        self._shown: Shown | None = None
        self._listed: tuple[tuple[View, str], Sequence[int]] | None = None
        self._history: History[FlowId] = History()

    def note(self, snapshot: FlowSnapshot) -> None:
        """Keep the bytes of the largest flows, and of those whose history has begun."""
        shown, sizes = Shown.of(snapshot), snapshot.flows.byte_counts
        self._history.begin(snapshot.interval_ns / 1e9)
        largest = shown.largest(REMEMBERED)
        known = {packed for _, packed in self._history}
        also = {index for index, packed in enumerate(snapshot.flows.packed_keys()) if packed in known}
        for index in also.difference(largest):
            self._history.add(shown.key(index), sizes[index], is_large=False)
        for index in reversed(largest):
            self._history.add(shown.key(index), sizes[index])

    def take(self, snapshot: FlowSnapshot) -> None:
        """Show this interval from now on."""
        self._shown, self._listed = Shown.of(snapshot), None

    def freeze(self) -> None:
        """Copy the largest flows."""
        if self._shown is None:
            return
        self._shown, self._listed = self._shown.frozen(), None

    def entries(self, view: View, order: str) -> Sequence[int]:
        """Return the indexes of the first LISTED flows."""
        if self._shown is None:
            return ()
        if self._listed is None or self._listed[0] != (view, order):
            self._listed = (view, order), _listed(self._shown, view, order)
        return self._listed[1]

    def size(self) -> int:
        """Return the number of flows in the interval."""
        return self._shown.flows if self._shown else 0

    def summary(self, view: View) -> str:
        """Return `eth0 in 209.6 Mbit/s out 131.1 kbit/s`, the busiest interfaces first."""
        return interface_rates(self._shown.snapshot, view) if self._shown else ""

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns; that of the interface only if there are several."""
        return (
            Column(""),
            Column("TYPE"),
            Column(view.rate_heading, is_number=True, order=RATE),
            Column("PACKETS/S", is_number=True, order=PACKETS),
            Column("SOURCE", order=SOURCE),
            Column("DESTINATION", order=DESTINATION),
            *([Column("INTERFACE")] if self._shown and self._shown.has_several else []),
            Column(""),
        )

    def row(self, entry: int, view: View) -> Row:
        """Return a flow's cells."""
        assert self._shown is not None
        flow = self._shown.table[entry]
        interface, seconds = self._shown.of_flow(flow)
        known = flow_row(self._shown.snapshot, interface, entry, seconds)
        return Row(
            [
                known.direction,
                known.kind,
                view.rate(flow.bytes / seconds),
                frequency(flow.packets / seconds),
                known.source,
                known.destination,
                *([interface.name] if self._shown.has_several else []),
                known.text,
            ]
        )

    def key(self, entry: int) -> FlowId:
        """Return a flow's interface and packed key."""
        assert self._shown is not None
        return self._shown.key(entry)

    def detail(self, key: FlowId, view: View) -> Detail:
        """Return what is known of a flow that may have had no packets in this interval."""
        assert self._shown is not None
        rates = self._history.rates(key)
        series = [Series("rate", rates, self._history.span_s(len(rates)))]
        found = self._shown.find(key)
        if found is None:
            return Detail(["no packets in this interval"], series)
        return Detail(list(_lines(self._shown, found, view)), series)


def interface_rates(snapshot: FlowSnapshot, view: View) -> str:
    """Return `eth0 in 209.6 Mbit/s out 131.1 kbit/s`, the busiest interfaces first."""
    rates: dict[str, dict[Direction, float]] = {}
    for interface, counts in snapshot.interfaces:
        seconds = (counts.interval_ns or snapshot.interval_ns) / 1e9
        rates.setdefault(interface.name, {})[interface.direction] = counts.total.bytes / seconds
    busiest = sorted(rates.items(), key=lambda each: sum(each[1].values()), reverse=True)
    return ", ".join(
        f"{name} {' '.join(f'{way.in_out} {view.words(rate)}' for way, rate in ways.items())}" for name, ways in busiest
    )


def _listed(shown: Shown, view: View, order: str) -> Sequence[int]:
    """Return the first flows in an order, of those that match."""
    table = shown.table
    indexes: Sequence[int] = range(len(table))
    if view.way is not None or view.chosen.names:
        places = [
            (interface.slot, interface.direction)
            for interface, _ in shown.watched.values()
            if view.shows(interface.direction) and view.chosen.named(interface.name)
        ]
        indexes = [index for place in places for index in table.indexes(*place)]
    matching = view.chosen.flows(table, indexes)
    if order == RATE:
        return heapq.nlargest(LISTED, matching, key=table.byte_counts.__getitem__)
    if order == PACKETS:
        return heapq.nlargest(LISTED, matching, key=table.packet_counts.__getitem__)
    begin = 0 if order == SOURCE else ADDRESS
    return heapq.nsmallest(LISTED, matching, key=lambda index: table.packed_key(index)[begin : begin + ADDRESS])


def _lines(shown: Shown, index: int, view: View) -> Iterator[str]:
    """Yield what an interval says of a flow, by its index in the table."""
    flow = shown.table[index]
    interface, seconds = shown.of_flow(flow)
    row = flow_row(shown.snapshot, interface, index, seconds)
    yield f"{row.kind}  {row.source}{ARROW}{row.destination}  {row.text}".rstrip()
    yield f"{interface.name} {row.direction}, {seconds:.1f} s"
    yield f"{view.words(flow.bytes / seconds)}, {flow.bytes} bytes"
    mean = flow.bytes / flow.packets
    yield f"{frequency(flow.packets / seconds)}packets/s, {flow.packets} packets, mean {mean:.0f} B"
    if flow.key.traffic_type == "ICMP":
        yield flow_details(shown.table, index, has_message=True)  # by numbers, too
    if flow.tcp_flags:
        yield f"TCP flags {tcp_flag_names(flow.tcp_flags)}"
    owner = shown.snapshot.owner(index)
    if owner:
        yield from owner_lines(owner)


def owner_lines(owner: FlowOwner) -> Iterator[str]:
    """Yield what is known of an owner."""
    yield f"owner: {owner_words(owner)}" + ("" if owner.uid is None else f", uid {owner.uid}")
    known = (("container", owner.container), ("pod", owner.pod), ("control group", owner.cgroup))
    yield from (f"{name} {value}" for name, value in known if value)
