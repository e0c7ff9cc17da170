"""Cost of the packet program, by BPF_PROG_TEST_RUN, over a program that does nothing."""

from __future__ import annotations

import statistics
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.support.build import compile_bpf
from tests.support.flood import frame
from xtrace.kernel import constants, features
from xtrace.kernel.bpf import Map, Program
from xtrace.kernel.elf import patch_constants
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import FlowTables, Place

REPEAT = 2_000_000
ROUNDS = 9
SOURCE = Path(__file__).parent / "programs.c"


@contextmanager
def scatter(target: Program, flows: int, train: int, in_order: bool = False) -> Iterator[Program]:
    """A program that spreads frames over `flows` flows and hands them to `target`."""
    spec = compile_bpf(SOURCE)
    values = {"flows": flows, "train": train, "in_order": in_order}
    with ExitStack() as owned:
        maps = {
            name: owned.enter_context(Map.create(patch_constants(m, values) if name == "rodata" else m))
            for name, m in spec.maps.items()
        }
        maps["measured"].update(bytes(4), struct.pack("=I", target.fileno()))
        yield owned.enter_context(Program.load(spec.programs["scatter"], maps, flags=constants.PROG_HAS_FRAGS))


@contextmanager
def candidates() -> Iterator[dict[str, Program]]:
    """The programs to compare, all loaded for frames with fragments, as the tool loads its own."""
    spec = compile_bpf(SOURCE)
    flags = constants.PROG_HAS_FRAGS
    with ExitStack() as owned:
        maps = {"naive_flows": owned.enter_context(Map.create(spec.maps["naive_flows"]))}
        tables = owned.enter_context(closing(FlowTables(Plan.make(65536), features.probe())))
        yield {
            "empty": owned.enter_context(Program.load(spec.programs["empty"], {}, flags=flags)),
            "naive": owned.enter_context(Program.load(spec.programs["naive"], maps, flags=flags)),
            "xtrace": owned.enter_context(tables.load("xdp_ingress", Place(frags=True))),
        }


def cost_ns(program: Program, flows: int, train: int) -> int:
    """ns per frame, the spreading included where there is more than one flow."""
    if flows == 1:
        return program.test_run(frame(1), repeat=REPEAT).duration_ns
    with scatter(program, flows, train) as wrapper:
        return wrapper.test_run(frame(1), repeat=REPEAT).duration_ns


PATTERNS = (
    ("one hot flow", 1, 1, "0.30"),
    ("trains of 32", 10_000, 32, "0.45"),
    ("trains of 8", 10_000, 8, "0.50"),
    ("1,000 random flows", 1000, 1, "0.50"),
    ("10,000 random flows", 10_000, 1, "0.45"),
    ("50,000 random flows", 50_000, 1, "0.50"),
)
"""Name, flows, packets of one flow in a row, goal."""


def measure() -> Iterator[str]:
    """A line per traffic pattern: ns over `empty` and their ratio, of the smallest and of the median round."""
    yield f"packet cost in ns over an empty program ({ROUNDS} interleaved rounds x {REPEAT:,} frames)"
    yield f"  {'traffic':<24}{'naive':>8}{'xtrace':>8}{'ratio':>8}{'median':>8}   goal"
    with candidates() as programs:
        for name, flows, train, goal in PATTERNS:
            rounds = [{key: cost_ns(program, flows, train) for key, program in programs.items()} for _ in range(ROUNDS)]
            naive, ours = (min(r[key] for r in rounds) - min(r["empty"] for r in rounds) for key in ("naive", "xtrace"))
            medians = [statistics.median(r[key] - r["empty"] for r in rounds) for key in ("naive", "xtrace")]
            yield (f"  {name:<24}{naive:>8}{ours:>8}{ours / naive:>8.2f}{medians[1] / medians[0]:>8.2f}   {goal}")
