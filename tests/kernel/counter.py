"""The packet program, fed by hand with BPF_PROG_TEST_RUN, and what its tables held at the end of an interval."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from tests.kernel.reference import parse
from xtrace.flow import TRAFFIC_TYPES, FlowKey, FlowRecord, InterfaceCounts, PacketCount
from xtrace.kernel import constants, features
from xtrace.kernel.bpf import Program
from xtrace.kernel.elf import ObjectSpec
from xtrace.kernel.features import Features
from xtrace.monitors.tables import Drained, FlowTables, Plan

XDP_PASS = 2
INGRESS = (0, False)
"""Interface slot 0, not egress: where the counters of a Counter are unless it asks for another slot."""

MAX_FLOWS = 65536
FULL = 16
"""The flows a small table has room for."""

Sums = dict[FlowKey, tuple[int, int, int]]
"""Packets, bytes and TCP flags by flow."""


@dataclass(frozen=True)
class Interval:
    """What was drained, copied out of the buffers that the next drain reuses."""

    flows: dict[FlowKey, FlowRecord]
    counts: dict[tuple[int, bool], InterfaceCounts]

    @property
    def sums(self) -> Sums:
        """The flows without their times."""
        return {key: (record.packets, record.bytes, record.tcp_flags) for key, record in self.flows.items()}

    @property
    def total(self) -> PacketCount:
        """All packets of slot 0."""
        return self.counts.get(INGRESS, InterfaceCounts()).total

    @property
    def unattributed(self) -> dict[str, PacketCount]:
        """Unattributed packets of slot 0, by the name of their traffic type."""
        found = self.counts.get(INGRESS, InterfaceCounts()).unattributed
        return {name: count for name, count in zip(TRAFFIC_TYPES, found, strict=True) if count.packets}


def read(drained: Drained) -> Interval:
    """Copy an interval, and hold it to the promise: every flow once, and the sums close."""
    records = list(drained.flows)
    interval = Interval({record.key: record for record in records}, dict(drained.counts))
    assert len(interval.flows) == len(records), "a flow was drained twice"
    slots = {(key.slot, bool(key.flags & 1)) for key in interval.flows}
    assert slots <= set(interval.counts), "flows of an interface that counted no packet"
    for where, counts in interval.counts.items():
        flows = [record for record in records if (record.key.slot, bool(record.key.flags & 1)) == where]
        in_flows = PacketCount(sum(flow.packets for flow in flows), sum(flow.bytes for flow in flows))
        assert in_flows + counts.unattributed_total + counts.filtered == counts.total, where
    return interval


class Counter:
    """The packet program on flow tables of its own."""

    def __init__(self, tables: FlowTables, program: Program) -> None:
        self.tables = tables
        self.program = program
        self._untaken = 0

    def count(self, frame: bytes, *, repeat: int = 1, linear: int | None = None) -> None:
        """Let the program see `frame`, of whose bytes the first `linear` are linear data; it must pass unchanged."""
        self._untaken += repeat
        context = b"" if linear is None else struct.pack("=6I", 0, linear, 0, 0, 0, 0)
        result = self.program.test_run(frame, repeat=repeat, context=context)
        assert result.verdict == XDP_PASS
        assert result.frame == frame

    def take(self) -> Interval:
        """End an interval and start the next."""
        return self._ended(self.tables.take())

    def finish(self) -> Interval:
        """End the last interval."""
        return self._ended(self.tables.finish())

    def _ended(self, drained: Drained) -> Interval:
        interval = read(drained)
        self._untaken -= sum(counts.total.packets for counts in interval.counts.values())
        return interval

    def empty(self) -> None:
        """Throw away what a test that failed has left, if any."""
        if self._untaken:
            self.tables.finish()
            self._untaken = 0

    def measure(self, frames: Iterable[bytes]) -> Interval:
        """An interval in which exactly `frames` came."""
        for frame in frames:
            self.count(frame)
        return self.take()


def present() -> Features:
    """What this kernel can do."""
    return features.probe()


@contextmanager
def counting(
    plan: Plan | None = None, having: Features | None = None, *, slot: int = 0, spec: ObjectSpec | None = None
) -> Iterator[Counter]:
    """A Counter, by default as the tool would run it on this kernel."""
    having = having or present()
    with ExitStack() as owned:
        tables = owned.enter_context(closing(FlowTables(plan or Plan.make(MAX_FLOWS), having, spec)))
        flags = constants.PROG_HAS_FRAGS if having.frags else 0
        yield Counter(tables, owned.enter_context(tables.load("xdp_ingress", slot=slot, flags=flags)))


def expected(frames: Iterable[bytes]) -> Sums:
    """What the reference parser says about frames that came one by one."""
    sums: Sums = {}
    for frame in frames:
        key, tcp_flags = parse(frame)
        packets, size, flags = sums.get(key, (0, 0, 0))
        sums[key] = (packets + 1, size + len(frame), flags | tcp_flags)
    return sums
