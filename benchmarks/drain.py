"""Cost of an interval's end, over the raw batch calls that empty a hash map with as many flows."""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.packet import scatter
from benchmarks.push import CONSTANT
from benchmarks.rows import Rounds, Row
from tests.support.flood import frame
from xtrace.kernel import features
from xtrace.kernel.bpf import Batch, Map, Program
from xtrace.model.flow import COUNTERS, KEY, FlowSnapshot, Interface, InterfaceCounts
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import Drained, FlowTables, Place, load_object_spec
from xtrace.options.table import DEFAULT_MAX_SERIES
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.sink import JsonLines
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.flows import DESCRIBED, FlowMetrics
from xtrace.sinks.metrics.sample import Interval
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text.sink import Text
from xtrace.stop import Stop

FLOWS, MANY = 100_000, 1_000_000
MANY_ROUNDS = 3
MOST_WITHOUT_A_PLACE = 9
"""Of flows in a table that is all but full."""
INTERFACE = Interface("bench0", 0, Hook.XDP, XdpMode.NATIVE)

Write = Callable[[FlowSnapshot], None]


class Table:
    """Flow tables whose intervals have one packet of each of `flows` flows, and a hash map with as many."""

    def __init__(self, tables: FlowTables, program: Program, raw: Map, flows: int) -> None:
        self._tables, self._program, self._raw, self._flows = tables, program, raw, flows
        self._start = resident()
        self.peak_mb = self.mapped_mb = 0.0
        """resident memory of intervals' ends, above that before the first; how much of it are mapped entries"""

    def raw_s(self) -> float:
        """The batch calls alone, into buffers large enough."""
        for number in range(self._flows):
            self._raw.update(struct.pack("=I44x", number), bytes(COUNTERS.size))
        batch = Batch(KEY.size, COUNTERS.size, 2 * self._flows)
        begun = time.thread_time()
        drained = self._raw.drain_into(batch)
        spent = time.thread_time() - begun
        assert drained == self._flows, drained
        return spent

    def tick_s(self, write: Write | None) -> float:
        """Flip to last byte written; waiting for the grace period costs no CPU. Without `write` only collected."""
        with scatter(self._program, self._flows, 1, in_order=True) as wrapper:
            wrapper.test_run(frame(1), repeat=self._flows)
        start = time.monotonic_ns()
        Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
        begun = time.thread_time()
        drained = self._tables.collect(self._tables.flip())
        if write:
            write(self._snapshot(drained, start))
        spent = time.thread_time() - begun
        after = resident()
        self.peak_mb = max(self.peak_mb, after["VmHWM"] - self._start["VmRSS"])
        self.mapped_mb = max(self.mapped_mb, after["RssFile"] - self._start["RssFile"])
        unattributed = drained.counts[(0, Direction.INGRESS)].unattributed_total.packets
        assert len(drained.flows) + unattributed == self._flows, (len(drained.flows), unattributed)
        assert unattributed <= MOST_WITHOUT_A_PLACE, unattributed
        return spent

    def _snapshot(self, drained: Drained, start_ns: int) -> FlowSnapshot:
        """What a monitor would make of it."""
        offset = time.time_ns() - time.monotonic_ns()
        return FlowSnapshot(
            end_ns=drained.end_monotonic_ns + offset,
            interval_ns=drained.end_monotonic_ns - start_ns,
            start_monotonic_ns=start_ns,
            clock=self._tables.clock(),
            wall_offset_ns=offset,
            flows=drained.flows,
            interfaces=((INTERFACE, drained.counts.get((0, Direction.INGRESS), InterfaceCounts())),),
        )


def resident() -> dict[str, float]:
    """Resident memory of this process in MB (10^6), by field of /proc/self/status."""
    found = re.findall(r"^(VmHWM|VmRSS|RssFile):\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return {name: int(kilobytes) * 1024 / 1e6 for name, kilobytes in found}


@contextmanager
def table(flows: int) -> Iterator[Table]:
    """Tables with room for that many flows, and as many free."""
    with ExitStack() as opened:
        plan = Plan.make(1 << flows.bit_length())
        raw = opened.enter_context(Map.create(plan.resize(load_object_spec(mapped=False).maps["flows_a"])))
        tables = opened.enter_context(closing(FlowTables(plan, features.probe())))
        program = opened.enter_context(tables.load("xdp_ingress", Place(frags=True)))
        yield Table(tables, program, raw, flows)


@contextmanager
def to_dev_null(make: Callable[[OutputStream], JsonLines | Text]) -> Iterator[Write]:
    """A sink for standard output that writes to /dev/null."""
    with closing(Stop()) as stop, Path(os.devnull).open("wb") as null:
        yield make(OutputStream(null.fileno(), stop)).write


def json_lines(stream: OutputStream) -> JsonLines:
    """The sink of -o json."""
    return JsonLines(stream, Identity("bench"))


@contextmanager
def exposition(series: int) -> Iterator[Write]:
    """A push's body, with so many flows that have their own series."""
    metrics, encoding = FlowMetrics(MetricsOptions(series)), Exposition(CONSTANT)

    def write(snapshot: FlowSnapshot) -> None:
        encoding.add(metrics.samples(snapshot), DESCRIBED, Interval.of(snapshot))
        encoding.compress(encoding.body())

    yield write


def over_raw(made: Table, write: Write | None, rounds: int) -> str:
    """The ratio, and what it is of."""
    if write:
        made.tick_s(write)  # the first makes series
    found = Rounds({"raw": made.raw_s, "ours": partial(made.tick_s, write)}, rounds)
    return f"{found.ratio('ours', 'raw')} ({found.least('ours') * 1e3:.1f} of {found.least('raw') * 1e3:.1f} ms)"


def collected() -> str:
    """Into Python's hands."""
    with table(FLOWS) as made:
        return over_raw(made, None, 9)


def written(make: Callable[[OutputStream], JsonLines | Text]) -> str:
    """All of it to /dev/null."""
    with table(FLOWS) as made, to_dev_null(make) as write:
        return over_raw(made, write, 9)


def pushed(series: int) -> str:
    """As the body of a push."""
    with table(FLOWS) as made, exposition(series) as write:
        return over_raw(made, write, 5)


def million() -> str:
    """All of a million flows as JSON Lines to /dev/null, and the memory for it."""
    with table(MANY) as made, to_dev_null(json_lines) as write:
        ratio = over_raw(made, write, MANY_ROUNDS)
        return f"{ratio}; {made.peak_mb:.0f} MB, {made.mapped_mb:.0f} of them mapped entries"


ROWS = (
    Row("drain", "drain of 100,000 flows into Python's hands, over raw", "0.30", collected),
    Row("jsonl", "the same to JSON Lines on /dev/null", "1.3", partial(written, json_lines)),
    Row("text", "the same to text on /dev/null", "2.0", partial(written, Text)),
    Row("exposition", "the same as a push's body, default --max-series", "2.0", partial(pushed, DEFAULT_MAX_SERIES)),
    Row("exposition-all", "the same with series for all 100,000", "", partial(pushed, FLOWS)),
    Row("million", "tick of 1,000,000 flows, JSON Lines; peak RSS above start", "1.3; 32 MB", million),
)
