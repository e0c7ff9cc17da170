"""Data model of NCCL calls: keys, counters, mode nccl's snapshot; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.nccl_names import ASYNC_ERROR, MOST_BYTES, NO_ERRORS, RESULTS
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_ras import RasReport
from xtrace.model.nccl_verdicts import Verdict
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.printable import printable

COUNTER_MASK = (1 << 64) - 1
"""Counters are 64 bits wide as in the kernel: sums of nonsensical counts wrap."""


class CallKey(NamedTuple):
    """struct nccl_key."""

    communicator: int
    pid: int
    nranks: int
    rank: int
    function: int
    datatype: int


KEY = abi.layout("struct nccl_key", *(field.replace("pid", "tgid") for field in CallKey._fields))


class Counters(NamedTuple):
    """struct nccl_counters: calls and elements belong to the interval of the begin, the rest to that of the return."""

    calls: int = 0
    elements: int = 0
    returned: int = 0
    latency_ns: int = 0
    results: tuple[int, ...] = (0,) * lib.NCCL_RESULTS
    latency: tuple[int, ...] = (0,) * lib.NCCL_LATENCY_BUCKETS
    command: str = ""

    @classmethod
    def unpack(cls, data: memoryview, offset: int = 0) -> Counters:
        """From the kernel's bytes."""
        *words, command = COUNTERS.unpack_from(data, offset)
        split = 4 + lib.NCCL_RESULTS
        name = printable(command.partition(b"\0")[0].decode("utf-8", "replace"))
        calls, elements, returned, latency_ns = words[:4]
        results, latency = tuple(words[4:split]), tuple(words[split:])
        return cls(calls, elements, returned, latency_ns, results, latency, name)

    def __add__(self, other: tuple[object, ...]) -> Counters:
        if not isinstance(other, Counters):
            return NotImplemented
        return Counters(
            self.calls + other.calls,
            self.elements + other.elements & COUNTER_MASK,
            self.returned + other.returned,
            self.latency_ns + other.latency_ns,
            tuple(map(sum, zip(self.results, other.results, strict=True))),
            tuple(map(sum, zip(self.latency, other.latency, strict=True))),
            self.command or other.command,
        )


COUNTERS = abi.layout("struct nccl_counters", *Counters._fields)


class CallTotals(NamedTuple):
    """struct nccl_totals: sum of calls + nested + duplicate + unattributed == entries."""

    entries: int = 0
    nested: int = 0
    duplicate: int = 0
    unattributed: int = 0
    unattributed_elements: int = 0
    unattributed_returns: int = 0

    @property
    def calls(self) -> int:
        """The number of calls, each once, including unattributed ones."""
        return self.entries - self.nested - self.duplicate

    def __add__(self, other: tuple[object, ...]) -> CallTotals:
        if not isinstance(other, CallTotals):
            return NotImplemented
        return CallTotals(*(one + another & COUNTER_MASK for one, another in zip(self, other, strict=True)))


class Mark(NamedTuple):
    """struct nccl_mark: a call on a communicator, by its number."""

    number: int
    begin_ns: int
    elements: int
    root: int
    function: int
    datatype: int


class PeerCalls(NamedTuple):
    """struct nccl_peer: sends and receives of one rank, by the other rank."""

    sends: int
    receives: int
    last_send_ns: int
    last_receive_ns: int


class State(NamedTuple):
    """struct nccl_communicator, with times of CLOCK_MONOTONIC."""

    nranks: int
    rank: int
    device: int
    user: int
    id: int
    parent: int
    begun: int
    returned: int
    last_begin_ns: int
    last_return_ns: int
    children: int
    is_whole: int
    peers_lost: int
    ended_by: int
    marks: tuple[Mark, ...]

    @classmethod
    def unpack(cls, data: bytes) -> State:
        """From the kernel's bytes."""
        values = COMMUNICATOR.unpack(data)
        words, size = len(cls._fields) - 1, len(Mark._fields)
        marks = (Mark(*values[at : at + size]) for at in range(words, len(values), size))
        return cls._make((*values[:words], tuple(mark for mark in marks if mark.number)))


class Running(NamedTuple):
    """struct nccl_call: a call in progress."""

    communicator: int
    pid: int
    known_nranks: int
    known_rank: int
    function: int
    datatype: int
    begin_ns: int
    out: int
    list: int
    elements: int
    id: int
    parent: int
    number: int
    nranks: int
    rank: int
    root: int
    file: int


class Frame(NamedTuple):
    """struct nccl_frame."""

    thread: int
    """process id above thread id"""
    stack: int
    function: int


TOTALS = abi.layout("struct nccl_totals", *CallTotals._fields)
OWNER = abi.layout("struct nccl_owner", "kind", "id")
COMMUNICATOR_KEY = abi.layout("struct nccl_communicator_key", "communicator", "tgid")
MARK = abi.layout("struct nccl_mark", *Mark._fields)
COMMUNICATOR = abi.layout("struct nccl_communicator", *State._fields)
PEER_KEY = abi.layout("struct nccl_peer_key", "communicator", "tgid", "peer")
PEER = abi.layout("struct nccl_peer", *PeerCalls._fields)
FRAME = abi.layout("struct nccl_frame", *Frame._fields)
CALL = abi.layout(
    "struct nccl_call",
    *("key", "begin_ns", "out", "list", "count", "id", "parent", "number", "nranks", "rank", "root", "file"),
)
FILE = abi.layout("struct nccl_file", "last_called_ns", "is_live")


@dataclass(frozen=True)
class Operation:
    """The calls of one function with one datatype on one communicator in one interval."""

    function: str
    datatype: str | None
    """None if the function has none; `unknown` for an unrecognized number"""
    requested_bytes: int | None
    """None if the size of datatype or communicator is unknown; 0 for functions that move no data"""
    counters: Counters

    @property
    def errors(self) -> dict[str, int]:
        """Number of calls by returned error."""
        return {} if self.function == ASYNC_ERROR else self._failures()

    @property
    def async_errors(self) -> dict[str, int]:
        """Number of CommGetAsyncError calls by the communicator error they reported."""
        return self._failures() if self.function == ASYNC_ERROR else {}

    def _failures(self) -> dict[str, int]:
        named = zip(RESULTS, self.counters.results, strict=True)
        return {name: count for name, count in named if count and name not in NO_ERRORS}


@dataclass(frozen=True)
class Communicator:
    """One communicator of one process in one interval."""

    address: int
    nranks: int | None
    """None if it was created before attaching or by a split, and CommCount was not called since"""
    rank: int | None
    device: int | None
    """CUDA device ordinal in the process's numbering"""
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class NicTraffic:
    """Traffic of the RDMA devices that a process uses, of all their users together."""

    devices: tuple[str, ...]
    queue_pairs: int | None
    """of this process"""
    tx_bytes: int | None = None
    rx_bytes: int | None = None
    read_ns: int | None = None
    """when the queue pairs were read, by the wall clock: they are read more seldom than others call"""


@dataclass(frozen=True)
class NcclProcess:
    """One process that uses NCCL."""

    pid: int
    command: str
    container: str | None
    libraries: tuple[str, ...]
    """paths in the process's mount namespace"""
    probed: bool
    """whether its calls are counted"""
    ended: bool
    """whether it has exited, or executes another program; this is its last record"""
    communicators: tuple[Communicator, ...] = ()
    operations: tuple[Operation, ...] = ()
    """calls without a communicator: groups, and failed initializations"""
    nic: NicTraffic | None = None
    """None: not known"""
    seen_ns: int | None = None
    """how long its calls were counted in this interval, if not all of it: its library was probed meanwhile"""

    @property
    def is_idle(self) -> bool:
        """Whether it only has the library mapped, like every worker that a job forks."""
        return self.probed and not self.communicators and not self.operations

    @property
    def cuda_devices(self) -> list[int]:
        """Device ordinals of its communicators, as far as known."""
        return sorted({found.device for found in self.communicators if found.device is not None})

    def all_operations(self) -> Iterator[Operation]:
        """The operations of all communicators, and those without one."""
        for communicator in self.communicators:
            yield from communicator.operations
        yield from self.operations


class Series(NamedTuple):
    """The labels of a sum of calls."""

    pid: str
    command: str
    """without path and arguments"""
    function: str
    datatype: str
    """empty if the function has none"""


class ErrorSeries(NamedTuple):
    """The labels of a sum of errors."""

    pid: str
    command: str
    error: str
    is_async: bool
    """reported by CommGetAsyncError"""


class CallSum(NamedTuple):
    """Cumulative sums of one series."""

    calls: int = 0
    requested_bytes: int = 0
    unsized_calls: int = 0
    """calls of unknown size, not part of requested_bytes"""
    returned: int = 0
    latency_ns: int = 0

    def plus(self, operation: Operation) -> CallSum:
        """The sum including one more interval."""
        counters, size = operation.counters, operation.requested_bytes
        return CallSum(
            self.calls + counters.calls,
            self.requested_bytes + (size or 0),
            self.unsized_calls + (counters.calls if size is None else 0),
            self.returned + counters.returned,
            self.latency_ns + counters.latency_ns,
        )


class Skipped(NamedTuple):
    """What is not searched or probed at the end of an interval: other calls than those counted may exist there."""

    waiting_processes: int = 0
    """to be searched; until then they are not known to use NCCL"""
    cut_processes: int = 0
    """with more mappings, files or symbols than are searched"""
    unprobed_files: int = 0
    """with NCCL's functions, while as many files as possible are probed"""


@dataclass(frozen=True)
class RunSums:
    """Cumulative sums of the run so far."""

    calls: Mapping[Series, CallSum] = field(default_factory=dict)
    errors: Mapping[ErrorSeries, int] = field(default_factory=dict)
    totals: CallTotals = field(default_factory=CallTotals)


@dataclass(frozen=True)
class NcclSetup(Setup):
    """How mode nccl runs."""

    attach: str = ""
    """uprobe_multi or perf_event"""
    max_keys: int = 0
    """capacity of an interval: combinations of process, communicator, function and datatype"""
    has_returns: bool = True
    """whether functions are probed where they return, too"""


@dataclass(frozen=True)
class NcclSnapshot(Snapshot):
    """One tick of mode nccl."""

    mode = "nccl"

    processes: tuple[NcclProcess, ...] = ()
    totals: CallTotals = field(default_factory=CallTotals)
    sums: RunSums = field(default_factory=RunSums)
    ranks: tuple[Rank, ...] = ()
    """of communicators, as of the end of the interval"""
    verdicts: tuple[Verdict, ...] = ()
    ras: RasReport | None = None
    """received in this interval"""
    ras_answers: bool | None = None
    """whether the RAS service answered the last query; None without --ras"""
    skipped: Skipped = field(default_factory=Skipped)
    has_returns: bool = True
    """whether results and durations of calls are known"""


@dataclass
class RunCalls:
    """All calls of a run."""

    sum: CallTotals = field(default_factory=CallTotals)

    def add(self, snapshot: NcclSnapshot) -> None:
        """Add one interval."""
        self.sum += snapshot.totals


def sum_counters(operations: Iterable[Operation]) -> Counters:
    """The sum of the counters of several operations."""
    total = Counters()
    for operation in operations:
        total += operation.counters
    return total


def total_bytes(operations: Iterable[Operation]) -> int | None:
    """The sum of the requested bytes; None if any of them is unknown."""
    total = 0
    for operation in operations:
        if operation.requested_bytes is None:
            return None
        total += operation.requested_bytes
    return total if total <= MOST_BYTES else None
