"""Cost of a drain with JSON Lines, over the raw batch calls that empty the same table."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.packet import scatter
from tests.support.flood import frame
from xtrace.kernel import features
from xtrace.kernel.bpf import Batch, Map, Program
from xtrace.model.flow import COUNTERS, KEY, FlowSnapshot, Interface, InterfaceCounts
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import Drained, FlowTables, Place, load_object_spec
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.sink import JsonLines
from xtrace.sinks.stream import OutputStream
from xtrace.stop import Stop

FLOWS = 100_000
ROUNDS = 5
INTERFACE = Interface("bench0", 0, Hook.XDP, XdpMode.NATIVE)


def fill(program: Program) -> None:
    """One packet of each flow into the active table."""
    with scatter(program, FLOWS, 1, in_order=True) as wrapper:
        wrapper.test_run(frame(1), repeat=FLOWS)


def snapshot(drained: Drained, tables: FlowTables, start_ns: int) -> FlowSnapshot:
    """What a monitor would make of it."""
    offset = time.time_ns() - time.monotonic_ns()
    return FlowSnapshot(
        end_ns=drained.end_monotonic_ns + offset,
        interval_ns=drained.end_monotonic_ns - start_ns,
        start_monotonic_ns=start_ns,
        clock=tables.clock(),
        wall_offset_ns=offset,
        flows=drained.flows,
        interfaces=((INTERFACE, drained.counts.get((0, Direction.INGRESS), InterfaceCounts())),),
    )


def raw_ms(table: Map) -> float:
    """The batch calls alone, on a table of the same kind and count, into buffers large enough."""
    for number in range(FLOWS):
        table.update(struct.pack("=I44x", number), bytes(COUNTERS.size))
    batch = Batch(KEY.size, COUNTERS.size, 2 * FLOWS)
    begun = time.perf_counter()
    drained = table.drain_into(batch)
    spent = time.perf_counter() - begun
    assert drained == FLOWS, drained
    return spent * 1000


def taken_ms(tables: FlowTables, program: Program) -> float:
    """Collect into Python's hands."""
    fill(program)
    ended = tables.flip()
    begun = time.perf_counter()
    drained = tables.collect(ended)
    spent = time.perf_counter() - begun
    assert len(drained.flows) == FLOWS, len(drained.flows)
    return spent * 1000


def full_ms(tables: FlowTables, program: Program, sink: JsonLines) -> float:
    """Flip to last byte written, without the grace period, which costs no CPU."""
    fill(program)
    start = time.monotonic_ns()
    begun = time.perf_counter()
    drained = tables.collect(tables.flip())
    sink.write(snapshot(drained, tables, start))
    spent = time.perf_counter() - begun
    assert len(drained.flows) == FLOWS, len(drained.flows)
    return spent * 1000 - tables.grace_ns / 1e6


def measure() -> Iterator[str]:
    """One line: both costs and their ratio."""
    plan = Plan.make(131072)
    with Map.create(plan.resize(load_object_spec(mapped=False).maps["flows_a"])) as table:
        raw = min(raw_ms(table) for _ in range(ROUNDS))
    with (
        closing(FlowTables(plan, features.probe())) as tables,
        tables.load("xdp_ingress", Place(frags=True)) as program,
        closing(Stop()) as stop,
        Path(os.devnull).open("wb") as null,
    ):
        sink = JsonLines(OutputStream(null.fileno(), stop), Identity("bench"))
        taken = min(taken_ms(tables, program) for _ in range(ROUNDS))
        full = min(full_ms(tables, program, sink) for _ in range(ROUNDS))
    yield f"drain of {FLOWS:,} flows: raw batch calls {raw:.1f} ms, collected where they lie {taken:.1f} ms,"
    yield f"  with JSON Lines {full:.1f} ms"
    yield f"  ratio {taken / raw:.2f}, goal 0.30; with JSON Lines {full / raw:.2f}, goal 1.3"
