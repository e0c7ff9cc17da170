"""The pane of NCCL jobs: a row per process, with its job, its calls, its NICs, and what keeps it waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xtrace.model.nccl import NcclProcess, NcclSnapshot, sum_counters, total_bytes
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_verdicts import Verdict
from xtrace.model.words import Direction, Health
from xtrace.sinks.live.history import History
from xtrace.sinks.live.listed import Listed, Sorting
from xtrace.sinks.live.pane import NOT_KNOWN, STYLES, Column, Detail, Row, Series, View, frequency
from xtrace.sinks.text.fit import Endpoint
from xtrace.sinks.text.nccl import communicator_lines, operation_text, process_line, ras_lines
from xtrace.sinks.text.nccl_ranks import verdict_lines

RATE, CALLS, JOB = "rate", "calls", "job"


class Member(NamedTuple):
    """One process and its ranks."""

    process: NcclProcess
    ranks: Sequence[Rank]
    seconds: float
    requested: int | None
    """bytes"""
    calls: int

    @property
    def job(self) -> str:
        """The name of its job; empty if its environment has none."""
        return next((rank.job.name for rank in self.ranks if rank.job), "")


SORTING = {
    RATE: Sorting(lambda member: (member.requested or 0) / member.seconds),
    CALLS: Sorting(lambda member: member.calls / member.seconds),
    JOB: Sorting(lambda member: (member.job, member.process.pid), is_descending=False),
}


class JobPane(Listed[Member]):
    """A row per process that calls NCCL."""

    title = "NCCL jobs"
    mode = "nccl"

    def __init__(self) -> None:
        super().__init__(SORTING)
        self._history: History[int] = History()
        self._snapshot: NcclSnapshot | None = None

    def note(self, snapshot: NcclSnapshot) -> None:
        """Keep the bytes that each process requests, where they are known."""
        self._history.begin(snapshot.interval_ns / 1e9)
        for process in snapshot.processes:
            size = total_bytes(process.all_operations())
            if size is not None:
                self._history.add(process.pid, size, is_large=not process.is_idle)

    def take(self, snapshot: NcclSnapshot) -> None:
        """Show this interval from now on."""
        self._snapshot = snapshot
        self.listed = [_member(snapshot, process) for process in snapshot.processes if not process.is_idle]

    def matches(self, entry: Member, view: View) -> bool:
        """Return whether its job, its process or one of its devices is wanted."""
        process = entry.process
        devices = process.nic.devices if process.nic else ()
        return view.chosen.named(entry.job, process.command, str(process.pid), *devices)

    def summary(self, view: View) -> str:
        """Return the worst verdict, else the sums of the interval."""
        snapshot = self._snapshot
        if snapshot is None:
            return ""
        for line in verdict_lines(snapshot.verdicts, snapshot.end_ns):
            return line
        idle = sum(process.is_idle for process in snapshot.processes)
        lost = snapshot.totals.unattributed
        words = [f"calls: {snapshot.totals.calls}", *([f"unattributed: {lost}"] if lost else [])]
        return ", ".join([*words, f"processes that made none: {idle}"])

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns; a process has both directions in one."""
        return (
            Column("JOB", order=JOB),
            Column("PID", True),
            Column("RANK"),
            Column("STATE"),
            Column("CALLS/S", True, CALLS),
            Column(view.rate_heading, True, RATE),
            *(Column(f"NIC {way.rx_tx.upper()}", True) for way in Direction if view.shows(way)),
            Column("ERRORS", True),
            Column("COMMAND"),
        )

    def row(self, entry: Member, view: View) -> Row:
        """Return its sums; what is not known is no zero."""
        process = entry.process
        requested = None if entry.requested is None else entry.requested / entry.seconds
        state = self._state(entry)
        return Row(
            [
                Endpoint(entry.job or NOT_KNOWN),
                str(process.pid),
                _ranks(process),
                state,
                frequency(entry.calls / entry.seconds) if process.probed else NOT_KNOWN,
                view.rate(requested) if process.probed else NOT_KNOWN,
                *(_nic_rate(entry, way, view) for way in Direction if view.shows(way)),
                self._errors(process),
                process.command,
            ],
            STYLES[Health.CRITICAL] if state.isupper() else "",
        )

    def key(self, entry: Member) -> int:
        """Return the process ID."""
        return entry.process.pid

    def detail(self, key: int, view: View) -> Detail:
        """Return all that text output says of the process, and the verdicts on its communicators."""
        rates = self._history.rates(key)
        series = [Series("requested", rates, self._history.span_s(len(rates)))]
        found = next((member for member in self.listed if member.process.pid == key), None)
        return Detail(list(self._lines(found)) if found else [f"process {key} made no calls in this interval"], series)

    def _errors(self, process: NcclProcess) -> str:
        if self._snapshot is None or not self._snapshot.has_returns:
            return NOT_KNOWN
        return str(sum(sum(operation.errors.values()) for operation in process.all_operations()))

    def _verdicts(self, member: Member) -> list[Verdict]:
        names = {rank.communicator for rank in member.ranks}
        verdicts = self._snapshot.verdicts if self._snapshot else ()
        return [verdict for verdict in verdicts if verdict.communicator in names]

    def _state(self, member: Member) -> str:
        """Return what is wrong with the process in capitals, or what it is doing."""
        verdicts = self._verdicts(member)
        for verdict in verdicts:
            if verdict.culprit is not None and verdict.culprit.pid == member.process.pid:
                return verdict.kind.value.upper()
        if verdicts:
            return "waits"
        return "ended" if member.process.ended else "runs"

    def _lines(self, member: Member) -> Iterator[str]:
        assert self._snapshot is not None
        process, end_ns = member.process, self._snapshot.end_ns
        yield process_line(process, member.seconds, self._snapshot.has_returns)
        opened = {rank.address: rank.open for rank in member.ranks if rank.open}
        for communicator in process.communicators:
            yield from communicator_lines(communicator, member.seconds, opened.get(communicator.address), end_ns)
        yield from (operation_text(operation, member.seconds) for operation in process.operations)
        yield from verdict_lines(self._verdicts(member), end_ns)
        if self._snapshot.ras is not None:
            yield from (line.rstrip("\n") for line in ras_lines(self._snapshot.ras))


def _member(snapshot: NcclSnapshot, process: NcclProcess) -> Member:
    operations = list(process.all_operations())
    return Member(
        process,
        [rank for rank in snapshot.ranks if rank.pid == process.pid],
        (process.seen_ns or snapshot.interval_ns) / 1e9,
        total_bytes(operations),
        sum_counters(operations).calls,
    )


def _ranks(process: NcclProcess) -> str:
    """Return `0/8`, or `0/8 +3` for more communicators."""
    known = [each for each in process.communicators if each.rank is not None and each.nranks is not None]
    if not known:
        return NOT_KNOWN
    largest = max(known, key=lambda communicator: communicator.nranks or 0)
    more = len(process.communicators) - 1
    return f"{largest.rank}/{largest.nranks}" + (f" +{more}" if more else "")


def _nic_rate(member: Member, direction: Direction, view: View) -> str:
    nic = member.process.nic
    size = None if nic is None else nic.tx_bytes if direction is Direction.EGRESS else nic.rx_bytes
    return view.rate(None if size is None else size / member.seconds)
