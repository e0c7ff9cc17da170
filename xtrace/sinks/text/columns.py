"""Mode xdp in columns: per interface its largest flows of all directions, then what each direction carried."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from xtrace.model.flow import (
    NOTHING,
    UNKNOWN_ORIGIN,
    FlowKey,
    FlowSnapshot,
    Interface,
    InterfaceCounts,
    Origin,
    PacketCount,
    select,
)
from xtrace.model.flow_totals import FlowTotals
from xtrace.model.icmp import icmp_name
from xtrace.model.owner_sums import by_owner
from xtrace.model.roce import opcode_name
from xtrace.model.words import Direction, Share
from xtrace.sinks.flow_lines import flow_details
from xtrace.sinks.kinds import Screen, TextOptions
from xtrace.sinks.render import address
from xtrace.sinks.text.fit import GAPS, Endpoint, cut, followed, shares
from xtrace.sinks.text.flows import has_message, has_ports, owner_words
from xtrace.sinks.text.screen import Ranked
from xtrace.sinks.text.units import counted, scaled

ARROW = " -> "
WITHOUT_SCREEN = 50
"""Flows of a block if there is no screen that they have to fit."""
NOT_FLOWS = 4
"""Lines of a block besides its flows: the blank one, the title, the headings, and one to prompt below."""
PER_DIRECTION = 2
"""Lines of each direction: flows that are not shown, and the sum."""

PROCESS = "{command}[{pid}]"
"""The name first: it is what remains where the end is cut."""

Watched = tuple[Interface, InterfaceCounts]


class Row(NamedTuple):
    """One flow, or a sum. `text` is a sum's; a flow has endpoints and details instead."""

    direction: str
    kind: str
    rate: str
    bytes: str
    packets: str
    source: Endpoint = Endpoint("")
    destination: Endpoint = Endpoint("")
    text: str = ""


class Chosen(NamedTuple):
    """A flow to show: its bytes, the number of its direction in the block, its index in the table."""

    size: int
    direction: int
    place: int


HEADINGS = Row("", "TYPE", "BIT/S", "BYTES", "PACKETS", Endpoint("SOURCE"), Endpoint("DESTINATION"))


class FlowColumns:
    """Renders a block per interface that carried packets, and one line for all others."""

    def __init__(self, options: TextOptions, screen: Screen) -> None:
        self._top = options.top
        self._by_owner = options.by_owner
        self._screen = screen

    def lines(self, snapshot: FlowSnapshot) -> Iterator[str]:
        """Yield all lines of one interval."""
        blocks = [list(block) for _, block in groupby(snapshot.interfaces, key=lambda watched: watched[0].slot)]
        busy = [block for block in blocks if any(counts.total.packets for _, counts in block)]
        idle = [block[0][0] for block in blocks if block not in busy]
        room = self._room(len(busy), max(map(len, busy), default=0), bool(idle))
        for block in busy:
            yield from self._block(snapshot, block, room)
        if idle:
            yield self._idle(snapshot, idle)

    def totals(self, totals: FlowTotals) -> Iterator[str]:
        """Yield the sums of the run, as the `end` record has them."""
        columns = {"UNATTRIBUTED": totals.unattributed, "FILTERED": totals.filtered}
        if any(fragments.packets for fragments in totals.filtered_fragments.values()):
            columns["FILTERED FRAGMENTS"] = totals.filtered_fragments
        rows: list[tuple[str, ...]] = [("INTERFACE", "", "PACKETS", "BYTES", *columns)]
        for (name, direction), total in totals.total.items():
            losses = (column[name, direction] for column in columns.values())
            sums = (f"{loss.packets} ({loss.bytes} bytes)" if loss.packets else "0" for loss in losses)
            rows.append((name, Direction(direction).in_out, str(total.packets), str(total.bytes), *sums))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            name, direction, *numbers = (
                cell.ljust(width) if place < 2 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield f"{'  '.join([name, direction, *numbers])}\n"

    def _room(self, blocks: int, directions: int, has_idle: bool) -> int:
        """Return how many flows each block may show."""
        if self._top is not None:
            return self._top
        rows = self._screen.rows()
        if rows is None:
            return WITHOUT_SCREEN
        return max(1, (rows - has_idle) // max(1, blocks) - NOT_FLOWS - directions * PER_DIRECTION)

    def _block(self, snapshot: FlowSnapshot, block: Sequence[Watched], room: int) -> Iterator[str]:
        interface, counts = block[0]
        seconds = (counts.interval_ns or snapshot.interval_ns) / 1e9
        state = "" if interface.is_up else "  down or without carrier"
        yield Ranked(f"{clock(snapshot)}  {interface.name}  {seconds:.1f} s{state}\n", rank=0)
        if self._by_owner:
            yield from table(owner_rows(snapshot, block, room, seconds), 0, self._screen.columns())
            return
        selections = [select(snapshot, each, room, ordered=True) for each, _ in block]
        candidates = [
            Chosen(size, direction, index)
            for direction, selection in enumerate(selections)
            for index, size in ((index, snapshot.flows.byte_counts[index]) for index in selection.chosen)
        ]
        # --top counts per direction, as in all formats; what fits counts for the block
        candidates.sort(reverse=True)
        shown = len(candidates) if self._top is not None else room
        chosen, left_out = candidates[:shown], candidates[shown:]
        rows = [flow_row(snapshot, block[direction][0], index, seconds) for _, direction, index in chosen]
        for direction, (each, _) in enumerate(block):
            rest = [candidate.place for candidate in left_out if candidate.direction == direction]
            count = selections[direction].other_flows + len(rest)
            if count:
                other = selections[direction].other + (snapshot.flows.sum(rest) if rest else NOTHING)
                rows.append(sum_row(each, "other", other, seconds, counted(count, "more flow")))
        rows += [
            sum_row(each, "all", each_counts.total, seconds, remarks(each_counts, selection.flows))
            for (each, each_counts), selection in zip(block, selections, strict=True)
        ]
        yield from table(rows, len(chosen), self._screen.columns())

    def _idle(self, snapshot: FlowSnapshot, idle: Sequence[Interface]) -> str:
        names = " ".join(each.name if each.is_up else f"{each.name} (down)" for each in idle)
        return cut(f"{clock(snapshot)}  without packets: {names}", self._screen.columns()) + "\n"


def owner_rows(snapshot: FlowSnapshot, block: Sequence[Watched], room: int, seconds: float) -> list[Row]:
    """Return a row for each of the largest owners of a block, then the rest and the sum of each direction."""
    sums = [by_owner(snapshot, each, room) for each, _ in block]
    owned = [(each, owner) for (each, _), found in zip(block, sums, strict=True) for owner in found.shown]
    owned.sort(key=lambda pair: pair[1].count.bytes, reverse=True)
    rows = []
    for each, owner in owned:
        text = f"{owner_words(owner.owner, PROCESS)}, {counted(owner.flows, 'flow')}"
        rows.append(sum_row(each, "owner", owner.count, seconds, text))
    for (each, counts), found in zip(block, sums, strict=True):
        if found.other_flows:
            text = f"{counted(found.other_flows, 'flow')} of other owners"
            rows.append(sum_row(each, "other", found.other, seconds, text))
        rows.append(sum_row(each, "all", counts.total, seconds, remarks(counts, found.flows)))
    return rows


def clock(snapshot: FlowSnapshot) -> str:
    """Return the local time at the end of the interval."""
    return time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))


def flow_row(snapshot: FlowSnapshot, interface: Interface, index: int, seconds: float) -> Row:
    """Return the row of a flow, by its index in the table."""
    flow, owner = snapshot.flows[index], snapshot.owner(index)
    key = flow.key
    origin = snapshot.origin(interface, key) if key.is_roce else UNKNOWN_ORIGIN
    details = [
        opcode_name(key.opcode) if key.is_roce else "",
        icmp_name(key.protocol, key.src_port, key.dst_port) if has_message(key) else "",
        flow_details(snapshot.flows, index, has_message=False),
        PROCESS.format(pid=origin.pid, command=origin.command) if origin.pid is not None else "",
        owner_words(owner, PROCESS) if owner and origin.pid is None else "",
    ]
    return Row(
        interface.direction.in_out,
        key.traffic_type,
        scaled(8 * flow.bytes / seconds),
        str(flow.bytes),
        str(flow.packets),
        *endpoints(key, origin),
        " ".join(filter(None, details)),
    )


def endpoints(key: FlowKey, origin: Origin) -> tuple[Endpoint, Endpoint]:
    """Return source and destination: an address with a port, or with a queue pair."""
    if not key.has_addresses:
        return Endpoint("-"), Endpoint("-")
    texts = address(key.src), address(key.dst)
    if key.is_roce:
        source = "?" if origin.src_qpn is None else origin.src_qpn
        return Endpoint(texts[0], f" qp {source}"), Endpoint(texts[1], f" qp {key.dst_qpn}")
    if not has_ports(key):
        return Endpoint(texts[0]), Endpoint(texts[1])
    ends = zip(texts, (key.src_port, key.dst_port), strict=True)
    source_end, destination_end = (Endpoint(text, f":{port}", brackets=":" in text) for text, port in ends)
    return source_end, destination_end


def sum_row(interface: Interface, kind: str, count: PacketCount, seconds: float, text: str) -> Row:
    """Return the row of a sum of one direction."""
    rate = scaled(8 * count.bytes / seconds)
    return Row(interface.direction.in_out, kind, rate, str(count.bytes), str(count.packets), text=text)


def remarks(counts: InterfaceCounts, flows: int) -> str:
    """Return `3 flows, filtered 5 packets 500 bytes`: what a sum contains besides flows, and what it may lack."""
    parts = [counted(flows, "flow")]
    for name, count in counts.in_no_flow.items():
        if count.packets:
            parts.append(f"{name} {count.packets} packets {count.bytes} bytes")
    if counts.coverage not in (None, Share.FULL):
        parts.append(f"coverage {counts.coverage}")
    if counts.qdisc_drops:
        parts.append(f"then dropped by the queue {counts.qdisc_drops}")
    return ", ".join(parts)


def table(rows: Sequence[Row], flows: int, width: int | None) -> Iterator[str]:
    """Yield the lines of `rows`, of which the first `flows` are flows, with headings, in at most `width` columns."""
    every = [HEADINGS, *rows]
    kinds, rates, sizes, packets = (max(len(row[place]) for row in every) for place in range(1, 5))
    ways = max(len(row.direction) for row in every)
    flow_rows = every[: flows + 1]
    needs = [max(len(str(row[place])) for row in flow_rows) for place in (5, 6)]
    longest = max(len(row.text) for row in flow_rows)
    fixed = ways + kinds + rates + sizes + packets + 2 + len(ARROW)
    gap = next((gap for gap in GAPS if not width or fixed + sum(needs) + longest + 4 * len(gap) <= width), GAPS[-1])
    room = width - fixed - 3 * len(gap) if width else None
    given = tuple(needs) if room is None else shares(needs, room)
    for rank, row in enumerate(every):
        numbers = gap.join((f"{row.rate:>{rates}}", f"{row.bytes:>{sizes}}", f"{row.packets:>{packets}}"))
        whole = f"{row.direction:{ways}} {row.kind:{kinds}} {numbers}{gap}"
        if rank > flows:
            whole += row.text
        else:
            whole += f"{row.source.fitted(given[0]):{given[0]}}{ARROW if rank else ' ' * len(ARROW)}"
            whole += followed(row.destination, row.text, None if room is None else room - given[0], given[1])
        line = cut(whole.rstrip(), width) + "\n"
        yield Ranked(line, rank) if 0 < rank <= flows else line
