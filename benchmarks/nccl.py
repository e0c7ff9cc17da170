"""Cost of a probed NCCL call, over one that nobody watches, and over one with probes that do nothing."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path

from tests.nccl.jobs import STANDIN_FUNCTIONS, calling, real_library, standin
from tests.nccl.shown import own
from xtrace.kernel import constants, uprobe
from xtrace.kernel.bpf import Program
from xtrace.kernel.features import load_trivial
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.monitors.nccl.libraries import find_functions
from xtrace.monitors.nccl.monitor import NcclMonitor, NcclOptions

CALLS = 200_000
CALLS_OF_EACH = 20_000
ROUNDS = 5


def do_nothing(library: Path) -> AbstractContextManager[object]:
    """Programs that return at once where every function begins and returns: what the kernel itself takes."""
    places = find_functions(str(library))
    with ExitStack() as probes:
        program = probes.enter_context(
            Program(load_trivial(constants.PROG_TYPE_KPROBE, constants.ATTACH_TYPE_UPROBE_MULTI, 0), "nothing")
        )
        for at_return in (True, False):
            offsets, cookies = list(places.values()), list(places)
            probes.enter_context(uprobe.attach_multi(program, str(library), offsets, cookies, at_return=at_return))
        return probes.pop_all()


def watch(library: Path) -> AbstractContextManager[object]:
    """Mode nccl, which sees none of the machine's processes but the one that calls."""
    os.environ["XTRACE_PROCFS"] = str(own())
    return closing(NcclMonitor(lambda text: None, NcclOptions("here")))


def cost_ns(
    library: Path, around: Callable[[Path], AbstractContextManager[object]], calls: int = CALLS, function: str = ""
) -> float:
    """CPU time of one call, user and system."""
    with calling(library, calls, function=function) as caller, around(library):
        caller.begin()
        return caller.wait()


def compare(library: Path, name: str) -> Iterator[str]:
    """Lines for one library: medians of rounds that take turns."""
    ways: dict[str, Callable[[Path], AbstractContextManager[object]]] = {"unprobed": lambda _: nullcontext()}
    if uprobe.has_multi():
        ways["empty"] = do_nothing
    ways["probed"] = watch
    rounds = [{way: cost_ns(library, around) for way, around in ways.items()} for _ in range(ROUNDS)]
    median = {way: statistics.median(figures[way] for figures in rounds) for way in ways}
    over = [figures["probed"] / figures["unprobed"] for figures in rounds]
    yield (
        f"{name}: a call that fails at once {median['unprobed']:.0f} ns of CPU, probed {median['probed']:.0f}:"
        f" {statistics.median(over):.1f} times ({min(over):.1f} to {max(over):.1f}), {ROUNDS} rounds of {CALLS:,}"
    )
    if "empty" in ways:
        over = [figures["probed"] / figures["empty"] for figures in rounds]
        yield (
            f"{name}: with probes that do nothing {median['empty']:.0f} ns; counting costs"
            f" {statistics.median(over):.2f} times that ({min(over):.2f} to {max(over):.2f})"
        )


def compare_functions(library: Path, name: str) -> Iterator[str]:
    """A line for each function: what it costs without and with probes."""
    places = find_functions(str(library))
    for number, function in enumerate(FUNCTIONS):
        if function in STANDIN_FUNCTIONS and number in places:
            costs = [
                [cost_ns(library, around, CALLS_OF_EACH, f"nccl{function}") for _ in range(ROUNDS)]
                for around in (lambda _: nullcontext(), watch)
            ]
            before, after = (statistics.median(rounds) for rounds in costs)
            yield f"{name}: {function}: {before:.0f} ns of CPU, probed {after:.0f}"


def measure() -> Iterator[str]:
    """Lines for the stand-in, and for NCCL itself where it is cached."""
    yield from compare(standin(), "stand-in")
    real = real_library(fetch=False)
    if real is not None:
        yield from compare(real, "NCCL")
        yield from compare_functions(real, "NCCL")
    else:
        yield f"NCCL: not cached, see tests/nccl/jobs.py (XTRACE_NCCL_CACHE={os.environ.get('XTRACE_NCCL_CACHE', '')})"
