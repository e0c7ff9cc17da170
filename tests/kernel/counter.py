"""The packet programs, fed by hand with BPF_PROG_TEST_RUN, and what their tables held at the end of an interval."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from tests.kernel.reference import Parsed, parse, parse_inner, parse_ipoib, parse_network, parse_nothing, parse_raw_ip
from tests.support.frames import IPV4, IPV6
from xtrace.kernel import features
from xtrace.kernel.bpf import Program
from xtrace.kernel.features import Features
from xtrace.kernel.syscall import lib
from xtrace.model.filters import Filters
from xtrace.model.flow import EGRESS, FlowKey, FlowRecord, InterfaceCounts, PacketCount
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Direction
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import NO_FILTERS, Drained, FlowTables, Place

XDP, TC = "xdp_ingress", "tc_packet"
"""The packet programs."""

VERDICTS = {XDP: 2, TC: 0xFFFFFFFF}
"""XDP_PASS, and TC_ACT_UNSPEC: what comes next is not their business."""

INGRESS = (0, Direction.INGRESS)
"""Interface slot 0, ingress: where the counters of a Counter are unless it asks for another place."""

MAX_FLOWS = 65536
FULL = 16
"""The flows a small table has room for."""

LONGEST_IN_A_PAGE = 3500
"""Bytes of a frame that fit into one page beside what the kernel keeps there."""

Sums = dict[FlowKey, tuple[int, int, int]]
"""Packets, bytes and TCP flags by flow."""


PARSERS: Mapping[tuple[str, int], Callable[[bytes], Parsed]] = {
    (XDP, lib.LINK_LAYER_ETHERNET): parse,
    (TC, lib.LINK_LAYER_ETHERNET): parse,
    (XDP, lib.LINK_LAYER_NONE): parse_nothing,
    (TC, lib.LINK_LAYER_NONE): parse_network,
    (XDP, lib.LINK_LAYER_IPOIB): parse_ipoib,
    (TC, lib.LINK_LAYER_IPOIB): parse_ipoib,
    (XDP, lib.LINK_LAYER_IP): parse_raw_ip,
}
HIDDEN = {(XDP, lib.LINK_LAYER_IPOIB): 20, (TC, lib.LINK_LAYER_IPOIB): 20, (TC, lib.LINK_LAYER_NONE): 14}
"""Bytes in front of a frame that are not on the wire: IPoIB's pseudo header; before the network header, of a tunnel."""


@dataclass(frozen=True)
class Interval:
    """What was drained, copied out of the buffers that the next drain reuses."""

    flows: dict[FlowKey, FlowRecord]
    counts: dict[tuple[int, Direction], InterfaceCounts]

    @property
    def sums(self) -> Sums:
        """The flows without their times."""
        return {key: (record.packets, record.bytes, record.tcp_flags) for key, record in self.flows.items()}

    @property
    def all(self) -> InterfaceCounts:
        """The counts of all slots and directions."""
        return sum(self.counts.values(), InterfaceCounts())

    @property
    def total(self) -> PacketCount:
        """All packets."""
        return self.all.total

    @property
    def unattributed(self) -> dict[str, PacketCount]:
        """Unattributed packets, by the name of their traffic type."""
        found = self.all.unattributed
        return {name: count for name, count in zip(TRAFFIC_TYPES, found, strict=True) if count.packets}


def read(drained: Drained) -> Interval:
    """Copy an interval, and hold it to the promise: every flow once, and the sums close."""
    records = list(drained.flows)
    interval = Interval({record.key: record for record in records}, dict(drained.counts))
    assert len(interval.flows) == len(records), "a flow was drained twice"
    directions = (Direction.INGRESS, Direction.EGRESS)
    slots = {(key.slot, directions[key.flags & EGRESS]) for key in interval.flows}
    assert slots <= set(interval.counts), "flows of an interface that counted no packet"
    for where, counts in interval.counts.items():
        flows = [record for record in records if (record.key.slot, directions[record.key.flags & EGRESS]) == where]
        in_flows = PacketCount(sum(flow.packets for flow in flows), sum(flow.bytes for flow in flows))
        assert in_flows + counts.unattributed_total + counts.filtered + counts.filtered_fragments == counts.total, where
    return interval


def takes_skb(frame: bytes) -> bool:
    """Whether BPF_PROG_TEST_RUN gives a program at tc this frame."""
    # a socket buffer must have its IP header whole (convert___skb_to_skb)
    shortest = {IPV4: 34, IPV6: 54}.get(int.from_bytes(frame[12:14], "big"), 15)
    return shortest <= len(frame) <= LONGEST_IN_A_PAGE


class Counter:
    """A packet program on flow tables of its own."""

    def __init__(self, tables: FlowTables, program: Program, place: Place, *, inner: bool = False) -> None:
        self.tables = tables
        self.program = program
        self.place = place
        self._parse = parse_inner if inner else PARSERS[program.name, place.link_layer]
        self.verdict = VERDICTS[program.name]
        self._untaken = 0

    def count(self, frame: bytes, *, repeat: int = 1, context: bytes = b"") -> None:
        """Let the program see `frame`, described by `context` if that is not empty; it must pass unchanged."""
        self._untaken += repeat
        result = self.program.test_run(frame, repeat=repeat, context=context)
        assert result.verdict == self.verdict
        assert result.frame == frame

    def takes(self, frame: bytes) -> bool:
        """Whether BPF_PROG_TEST_RUN gives the program this frame (net/bpf/test_run.c)."""
        if self.program.name == XDP:
            return len(frame) <= LONGEST_IN_A_PAGE or self.place.frags
        return takes_skb(frame)

    def take(self) -> Interval:
        """End an interval and start the next."""
        return self._ended(self.tables.collect(self.tables.flip()))

    def finish(self) -> Interval:
        """End the last interval."""
        return self._ended(self.tables.collect(self.tables.flip(last=True)))

    def _ended(self, drained: Drained) -> Interval:
        interval = read(drained)
        self._untaken -= interval.total.packets
        return interval

    def empty(self) -> None:
        """Throw away what a test that failed has left, if any."""
        if self._untaken:
            self.tables.collect(self.tables.flip(last=True))
            self._untaken = 0

    def measure(self, frames: Iterable[bytes]) -> Interval:
        """An interval in which exactly `frames` came."""
        for frame in frames:
            self.count(frame)
        return self.take()

    def parse(self, frame: bytes) -> Parsed:
        """What the reference parser says about a frame that comes here."""
        key, tcp_flags = self._parse(frame)
        return Parsed(self.here(key), tcp_flags)

    def here(self, key: FlowKey) -> FlowKey:
        """The key of a flow that is seen at this place."""
        return key._replace(slot=self.place.slot, flags=key.flags | EGRESS * self.place.direction.bit)

    def size(self, frame: bytes) -> int:
        """How many bytes of a frame are on the wire."""
        return max(len(frame) - HIDDEN.get((self.program.name, self.place.link_layer), 0), 0)

    def expected(self, frames: Iterable[bytes]) -> Sums:
        """What the reference parser says about frames that come here one by one."""
        return expected(frames, self.parse, self.size)


def present() -> Features:
    """What this kernel can do."""
    return features.probe()


@contextmanager
def counting(
    plan: Plan | None = None,
    having: Features | None = None,
    *,
    program: str = XDP,
    slot: int = 0,
    direction: Direction = Direction.INGRESS,
    link_layer: int = lib.LINK_LAYER_ETHERNET,
    filters: Filters = NO_FILTERS,
    plain: bool = True,
) -> Iterator[Counter]:
    """A Counter, by default as the tool would run it on this kernel at an interface's XDP hook."""
    having = having or present()
    place = Place(slot, direction, link_layer, having.frags and program == XDP, plain)
    with ExitStack() as owned:
        tables = owned.enter_context(closing(FlowTables(plan or Plan.make(MAX_FLOWS), having, filters)))
        yield Counter(tables, owned.enter_context(tables.load(program, place)), place, inner=filters.inner)


def expected(
    frames: Iterable[bytes], parse_one: Callable[[bytes], Parsed] = parse, size_of: Callable[[bytes], int] = len
) -> Sums:
    """What the reference parser says about frames that came one by one."""
    sums: Sums = {}
    for frame in frames:
        key, tcp_flags = parse_one(frame)
        packets, size, flags = sums.get(key, (0, 0, 0))
        sums[key] = (packets + 1, size + size_of(frame), flags | tcp_flags)
    return sums


def xdp_context(linear: int) -> bytes:
    """A struct xdp_md: the first `linear` bytes of the frame are its linear data."""
    return struct.pack("=6I", 0, linear, 0, 0, 0, 0)


def skb_context(*, mark: int = 0, priority: int = 0, gso_size: int = 0, gso_segs: int = 0) -> bytes:
    """A struct __sk_buff with those of its fields that BPF_PROG_TEST_RUN takes from a caller."""
    return struct.pack("=8xI20xI128xII4xI12x", mark, priority, gso_segs, 0, gso_size)
