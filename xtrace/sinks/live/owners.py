"""The pane of owners: what each one's flows carried, and what is nobody's here."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from xtrace.model.flow import FlowSnapshot, Interface
from xtrace.model.flow_owners import FlowOwner, How
from xtrace.model.words import Direction
from xtrace.sinks.live.flows import Part, Shown, interface_rates, owner_lines
from xtrace.sinks.live.history import History
from xtrace.sinks.live.owned import Gathered, Owned
from xtrace.sinks.live.pane import Column, Detail, Row, Series, View, frequency
from xtrace.sinks.text.columns import ARROW, flow_row
from xtrace.sinks.text.fit import Endpoint
from xtrace.sinks.text.flows import owner_words
from xtrace.sinks.text.units import counted

REMEMBERED = 250
"""Owners of an interval whose history begins with it."""
FLOWS = 10
"""Flows of an owner in its detail."""

REST = "more"
RATE, PACKETS, FLOW_COUNT, NAME = "rate", "packets", "flows", "name"

SORTING: Mapping[str, tuple[Callable[[Owned], float | str], bool]] = {
    RATE: (lambda each: each.rate(*Direction), True),
    PACKETS: (lambda each: each.packets, True),
    FLOW_COUNT: (lambda each: each.flows, True),
    NAME: (lambda each: each.name, False),
}
"""Keys, and whether the largest are first."""

KINDS = {How.KERNEL: "kernel", How.NOT_LOCAL: "not local", How.UNKNOWN: "unknown", How.CGROUP: "group only"}
"""Words for what is no process's; all else is named."""
MEANINGS = {How.KERNEL: "the kernel's own", How.NOT_LOCAL: "forwarded or bridged", How.UNKNOWN: "not known"}
"""What rows say that have no more to say."""


class OwnerPane:
    """A row per owner, of all interfaces and directions."""

    title = "owners"
    mode = "xdp"
    orders = tuple(SORTING)

    def __init__(self) -> None:
        self._noted: Gathered | None = None
        self._gathered: Gathered | None = None
        """what is shown"""
        self._owned: Sequence[Owned] = ()
        self._listed: tuple[tuple[View, str], Sequence[Owned]] | None = None
        self._history: History[FlowOwner] = History()
        self._packed: Mapping[FlowOwner, Collection[bytes]] = {}
        """of owners that have a history or were shown, also if they are no longer among the largest"""
        self._detailed: FlowOwner | None = None

    def note(self, snapshot: FlowSnapshot) -> None:
        """Keep the bytes of the largest owners, and of those whose history has begun."""
        self._noted = gathered = Gathered.of(snapshot)
        self._history.begin(snapshot.interval_ns / 1e9)
        largest = gathered.largest(REMEMBERED)
        kept = {*self._history, self._detailed}
        before = {owner: some for owner, some in self._packed.items() if owner in kept}
        self._packed = {**before, **gathered.packed}
        for owner in set(self._history).difference(largest):
            parts = gathered.find(owner, self._packed[owner])
            if parts:
                self._history.add(owner, sum(row.bytes for _, row in parts), is_large=False)
        for owner in reversed(largest):
            self._history.add(owner, gathered.sizes[owner])

    def take(self, snapshot: FlowSnapshot) -> None:
        """Show what was noted last."""
        assert self._noted is not None
        self._gathered, self._listed = self._noted, None
        self._owned = self._noted.listed()

    def freeze(self) -> None:
        """Copy the largest flows, for details: the next tick overwrites the table."""
        if self._gathered is not None:
            self._gathered = self._gathered._replace(shown=self._gathered.shown.frozen())

    def entries(self, view: View, order: str) -> Sequence[Owned]:
        """Return the owners that match, in order."""
        if self._listed is None or self._listed[0] != (view, order):
            key, is_descending = SORTING[order]
            matching = filter(None, (each.matching(view) for each in self._owned))
            # what stands for many is last
            found = sorted(matching, key=key, reverse=is_descending)
            found.sort(key=lambda each: each.owner is None)
            self._listed = (view, order), found
        return self._listed[1]

    def size(self) -> int:
        """Return the number of rows without a filter."""
        return len(self._owned)

    def summary(self, view: View) -> str:
        """Return `by bytes: named 98.2 %, not local 1.0 %, unknown 0.8 %`, and what is in no flow."""
        if self._gathered is None:
            return ""
        snapshot = self._gathered.shown.snapshot
        sizes: Counter[str] = Counter()
        for owner, size in self._gathered.sizes.items():
            sizes[KINDS.get(owner.how, "named")] += size
        sizes["named"] += sum(row.bytes for _, row in self._gathered.left)
        sizes["in no flow"] = sum(
            count.bytes for _, counts in snapshot.interfaces for count in counts.in_no_flow.values()
        )
        whole = sum(sizes.values())
        if not whole:
            return interface_rates(snapshot, view)
        words = (f"{name} {100 * sizes[name] / whole:.1f} %" for name in ("named", *KINDS.values()))
        rest = f", in no flow {100 * sizes['in no flow'] / whole:.1f} %" if sizes["in no flow"] else ""
        return f"by bytes: {', '.join(words)}{rest}"

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns of the directions that are shown."""
        return (
            Column("OWNER", order=NAME),
            *(
                Column(f"{way.in_out.upper()} {view.rate_heading}", is_number=True, order=RATE)
                for way in Direction
                if view.shows(way)
            ),
            Column("PACKETS/S", is_number=True, order=PACKETS),
            Column("FLOWS", is_number=True, order=FLOW_COUNT),
            Column(""),
        )

    def row(self, entry: Owned, view: View) -> Row:
        """Return an owner's cells."""
        return Row(
            [
                Endpoint(entry.name),
                *(view.rate(entry.rate(way)) for way in Direction if view.shows(way)),
                frequency(entry.packets),
                str(entry.flows),
                _meaning(entry.owner) if entry.owner else "",
            ]
        )

    def key(self, entry: Owned) -> FlowOwner | str:
        """Return the owner; REST for those without a row of their own."""
        return entry.owner or REST

    def detail(self, key: FlowOwner | str, view: View) -> Detail:
        """Return all that is known of an owner, what it carried where, and its largest flows."""
        assert self._gathered is not None
        if isinstance(key, str):
            return Detail(["the sum of the owners that have no row of their own"])
        self._detailed = key
        rates = self._history.rates(key)
        series = [Series("rate", rates, self._history.span_s(len(rates)))]
        lines = [*owner_lines(key)]
        parts = self._gathered.find(key, self._packed.get(key, ()))
        if not parts:
            return Detail([*lines, "no packets in this interval"], series)
        lines += [_part_line(part, view) for part in parts if view.shows(part[0].interface.direction)]
        return Detail([*lines, *_flow_lines(self._gathered, parts, view)], series)


def _meaning(owner: FlowOwner) -> str:
    """Return what a row says of its owner."""
    return MEANINGS[owner.how] if owner.how in MEANINGS else owner_words(owner)


def _part_line(part: Part, view: View) -> str:
    """Return `eth0 in 1.2 Mbit/s, 150000 bytes, 100 packets in 1.0 s, 3 flows`."""
    (interface, seconds), row = part
    return (
        f"{interface.name} {interface.direction.in_out:3} {view.words(row.bytes / seconds)}, {row.bytes} bytes,"
        f" {row.packets} packets in {seconds:.1f} s, {counted(row.flows, 'flow')}"
    )


def _flow_lines(gathered: Gathered, parts: Sequence[Part], view: View) -> Iterator[str]:
    """Yield the largest flows of an owner that are still there."""
    shown = gathered.shown
    table, found = shown.table, shown.table.owner_rows()
    own = {number for owner in {row.owner for _, row in parts} for number in found.ranked.of(owner).numbers}
    indexes = [index for index, number in enumerate(found.numbers) if number in own]
    for index in heapq.nlargest(FLOWS, indexes, key=table.byte_counts.__getitem__):
        interface, seconds = shown.of_flow(table[index])
        if view.shows(interface.direction):
            yield _flow_line(shown, interface, index, seconds, view)


def _flow_line(shown: Shown, interface: Interface, index: int, seconds: float, view: View) -> str:
    row = flow_row(shown.snapshot, interface, index, seconds)
    rate = view.words(shown.table.byte_counts[index] / seconds)
    return f"  {row.kind} {row.source}{ARROW}{row.destination}  {interface.name} {row.direction} {rate}"
