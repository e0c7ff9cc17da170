"""Cost of the packet program, by BPF_PROG_TEST_RUN, over a program that does nothing."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.rows import Rounds, Row
from tests.support import frames
from tests.support.build import compile_bpf
from tests.support.flood import frame
from xtrace.kernel import constants, features
from xtrace.kernel.bpf import Map, Program
from xtrace.kernel.elf import patch_constants
from xtrace.kernel.syscall import lib
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import TC_PROGRAM, FlowTables, Place

REPEAT = 2_000_000
RING_REPEAT = 200_000
"""As many events as there is room for."""
SOURCE = Path(__file__).parent / "programs.c"
PEERS = {"tutorial": "a tutorial's", "per_cpu_lru": "LRU per CPU", "ring": "ring buffer"}


@contextmanager
def own_programs(*names: str, tc: bool = False) -> Iterator[dict[str, Program]]:
    """Programs of this directory, loaded as the tool loads its own: for frames with fragments."""
    spec = compile_bpf(SOURCE)
    prepare = partial(Program.prepare, flags=constants.PROG_HAS_FRAGS)
    if tc:
        prepare = partial(Program.prepare, prog_type=constants.PROG_TYPE_SCHED_CLS, attach_type=0)
    with ExitStack() as owned:
        wanted = ("naive_flows", "tutorial_sources", "lru_flows", "events")
        maps = {name: owned.enter_context(Map.create(spec.maps[name])) for name in wanted}
        loaded = {name: owned.enter_context(prepare(spec.programs[name], maps)()) for name in names}
        if "ring" in loaded:
            loaded["ring"] = owned.enter_context(Emptied(loaded["ring"], maps["events"]))
        yield loaded


class Emptied(Program):
    """The program that fills a ring buffer, which is emptied before there is no room left, at no cost."""

    def __init__(self, program: Program, ring: Map) -> None:
        super().__init__(program.fileno(), program.name)
        self._consumed = mmap.mmap(ring.fileno(), mmap.PAGESIZE)
        self._produced = mmap.mmap(ring.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)

    def empty(self) -> None:
        """Set the consumer's position to the producer's."""
        self._consumed[:8] = self._produced[:8]

    def close(self) -> None:
        """Unmap; the descriptor has an owner."""
        self._consumed.close()
        self._produced.close()


@contextmanager
def scatter(target: Program, flows: int, train: int, in_order: bool = False) -> Iterator[Program]:
    """A program that spreads frames over `flows` flows and hands them to `target`."""
    spec = compile_bpf(SOURCE)
    values = {"flows": flows, "train": train, "in_order": in_order}
    with ExitStack() as owned:
        maps = {
            name: owned.enter_context(Map.create(patch_constants(spec.maps[name], values)))
            if name == "rodata"
            else owned.enter_context(Map.create(spec.maps[name]))
            for name in ("rodata", "bss", "measured")
        }
        maps["measured"].update(bytes(4), struct.pack("=I", target.fileno()))
        yield owned.enter_context(Program.prepare(spec.programs["scatter"], maps, flags=constants.PROG_HAS_FRAGS)())


@contextmanager
def packet_program(*, tc: bool = False) -> Iterator[Program]:
    """Ours, with flow tables as in a run with default settings."""
    what, where = (TC_PROGRAM, Place()) if tc else ("xdp_ingress", Place(frags=True))
    plan = Plan.make(lib.DEFAULT_MAX_FLOWS)
    with closing(FlowTables(plan, features.probe())) as tables, tables.load(what, where) as program:
        yield program


def cost_ns(program: Program, sample: bytes, after: Callable[[], None] | None = None) -> float:
    """CPU time of a frame in ns, the test run included. `after` is called whenever RING_REPEAT frames have passed."""
    spent = 0
    repeat = RING_REPEAT if after else REPEAT
    for _ in range(REPEAT // repeat):
        begun = time.thread_time_ns()
        program.test_run(sample, repeat=repeat)
        spent += time.thread_time_ns() - begun
        if after:
            after()
    return spent / REPEAT


def spread_ns(program: Program, flows: int, train: int) -> float:
    """The same with frames of many flows, the spreading included."""
    after = program.empty if isinstance(program, Emptied) else None
    if flows == 1:
        return cost_ns(program, frame(1), after)
    with scatter(program, flows, train) as wrapper:
        return cost_ns(wrapper, frame(1), after)


def over_naive(flows: int, train: int) -> str:
    """Ours over naive, both over empty."""
    with own_programs("empty", "naive") as programs, packet_program() as ours:
        ways = {name: partial(spread_ns, each, flows, train) for name, each in {**programs, "ours": ours}.items()}
        rounds = Rounds(ways, floor="empty")
    return f"{rounds.ratio('ours', 'naive')} ({rounds.least('ours'):.1f} of {rounds.least('naive'):.1f} ns)"


def peers(flows: int) -> str:
    """What others do, over naive."""
    with own_programs("empty", "naive", *PEERS) as programs:
        rounds = Rounds({name: partial(spread_ns, each, flows, 1) for name, each in programs.items()}, floor="empty")
    return "; ".join(f"{words} {rounds.ratio(name, 'naive')}" for name, words in PEERS.items())


def other_frame(sample: bytes) -> str:
    """Ours with a frame that is not plain, over naive with one of IPv4."""
    with own_programs("empty", "naive") as programs, packet_program() as ours:
        ways: Mapping[str, Callable[[], float]] = {
            "empty": partial(cost_ns, programs["empty"], sample),
            "naive": partial(cost_ns, programs["naive"], frame(1)),
            "ours": partial(cost_ns, ours, sample),
        }
        return Rounds(ways, floor="empty").ratio("ours", "naive")


def at_tc() -> str:
    """Ours at tc, over naive at tc."""
    with own_programs("empty_tc", "naive_tc", tc=True) as programs, packet_program(tc=True) as ours:
        ways = {name: partial(cost_ns, each, frame(1)) for name, each in {**programs, "ours": ours}.items()}
        return Rounds(ways, floor="empty_tc").ratio("ours", "naive_tc")


UDP = frames.udp(49152, 443, bytes(32))
OTHERS = {
    "ipv6": ("IPv6", frames.ethernet(frames.IPV6, frames.ipv6(frames.UDP, UDP))),
    "vlan": ("VLAN", frames.ethernet(frames.VLAN, frames.vlan(7, frames.IPV4, frames.ipv4(frames.UDP, UDP)))),
    "roce": (
        "RoCE v2",
        frames.ethernet(frames.IPV4, frames.ipv4(frames.UDP, frames.roce(frames.bth(4, 0x123456, bytes(32))))),
    ),
}

ROWS = (
    Row("hot", "packet over naive: one hot flow, IPv4", "0.30", partial(over_naive, 1, 1)),
    Row("trains32", "trains of 32 over 10,000 flows", "0.45", partial(over_naive, 10_000, 32)),
    Row("trains8", "trains of 8 over 10,000 flows", "0.50", partial(over_naive, 10_000, 8)),
    Row("random1000", "1,000 random flows", "0.50", partial(over_naive, 1000, 1)),
    Row("random10000", "10,000 random flows", "0.45", partial(over_naive, 10_000, 1)),
    Row("random50000", "50,000 random flows", "0.50", partial(over_naive, 50_000, 1)),
    *(
        Row(name, f"{words}, one hot flow, over IPv4 naive", "0.60", partial(other_frame, sample))
        for name, (words, sample) in OTHERS.items()
    ),
    Row("tc", "tc, one hot flow, over a naive tc counter", "0.45", at_tc),
    Row("peers-hot", "shapes of others over naive: one hot flow", "", partial(peers, 1)),
    Row("peers-10000", "shapes of others over naive: 10,000 random flows", "", partial(peers, 10_000)),
)
