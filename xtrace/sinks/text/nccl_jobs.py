"""Mode nccl for a person: jobs and their communicators, what is wrong first, then what they ask for, and what ended."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from xtrace.model.nccl import Communicator, NcclProcess, NcclSnapshot, Operation, RunCalls, sum_counters, total_bytes
from xtrace.model.nccl_evidence import known, seconds
from xtrace.model.nccl_ranks import Rank
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.text.nccl import ras_lines
from xtrace.sinks.text.nccl_ranks import NO_JOB, NOTE, Members, by_job, communicator_lines, short_command
from xtrace.sinks.text.screen import Ranked
from xtrace.sinks.text.units import counted, scaled

TITLE, WRONG = 0, 1
"""What stands out."""

OF_WRONG = 8
"""Ranks shown of a communicator with which something is wrong, unless --top says how many of all."""

Where = tuple[int, int | None]
"""Process id and address of a communicator."""


class NcclJobs:
    """Renders each interval as a page: jobs, communicators, what they ask for, their ranks."""

    def __init__(self, options: TextOptions) -> None:
        self._top = options.top

    def lines(self, snapshot: NcclSnapshot) -> Iterator[str]:
        """Yield all lines of one interval, each with its newline."""
        for line in self._page(snapshot):
            yield Ranked(f"{line}\n", line.rank) if isinstance(line, Ranked) else f"{line}\n"

    def totals(self, totals: RunCalls) -> tuple[str, ...]:
        """Return calls of the whole run."""
        lost = f", {many(totals.sum.unattributed, 'unattributed')}" if totals.sum.unattributed else ""
        return (f"nccl: {many(totals.sum.calls, 'calls')}{lost}\n",)

    def _page(self, snapshot: NcclSnapshot) -> Iterator[str]:
        yield Ranked(title(snapshot), TITLE)
        processes = {process.pid: process for process in snapshot.processes}
        communicators: dict[Where, Communicator] = {
            (process.pid, one.address): one for process in snapshot.processes for one in process.communicators
        }
        jobs = by_job(snapshot.ranks, snapshot.verdicts)
        for job, members in jobs.items():
            yield f"job {job}"
            pids = dict.fromkeys(rank.pid for one in members for rank in one.ranks if rank.pid in processes)
            yield from carried([processes[pid] for pid in pids])
            for one in members:
                yield from self._communicator(one, communicators, snapshot)
            loose = [operation for pid in pids for operation in processes[pid].operations]
            yield from (f"  {text}" for text in requests(loose, snapshot.interval_ns / 1e9))
        if snapshot.verdicts:
            yield NOTE
        yield from nameless(snapshot, with_title=NO_JOB not in jobs)
        yield from ended(snapshot)
        if snapshot.ras is not None:
            yield from (line.rstrip("\n") for line in ras_lines(snapshot.ras))

    def _communicator(
        self, one: Members, communicators: Mapping[Where, Communicator], snapshot: NcclSnapshot
    ) -> Iterator[str]:
        head, *wrong = communicator_lines(one.name, one.ranks, one.verdicts, snapshot.end_ns)
        yield f"  {head}"
        for text in wrong:
            yield Ranked(f"  {text}", WRONG)
        here = [communicators[where] for rank in one.ranks if (where := (rank.pid, rank.address)) in communicators]
        made = [operation for communicator in here for operation in communicator.operations]
        for text in requests(made, snapshot.interval_ns / 1e9):
            yield f"    {text}"
        culprits = {verdict.rank for verdict in one.verdicts}
        ranks = sorted(one.ranks, key=lambda rank: (rank.rank not in culprits, _open_since(rank), rank.rank or 0))
        limit = (OF_WRONG if one.verdicts else 0) if self._top is None else self._top or len(ranks)
        for rank in ranks[:limit]:
            yield f"    {rank_line(rank, communicators.get((rank.pid, rank.address)), snapshot.end_ns)}"
        if 0 < limit < len(ranks):
            yield f"    and {counted(len(ranks) - limit, 'rank')} more (--top 0 shows all)"


def title(snapshot: NcclSnapshot) -> str:
    """`nccl 15:04:05 1.0 s: 8 processes, 1.0 k calls, 4.1 MB/s requested`"""
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
    length = snapshot.interval_ns / 1e9
    size = total_bytes(operation for process in snapshot.processes for operation in process.all_operations())
    idle = sum(process.is_idle for process in snapshot.processes)
    words = [f"{len(snapshot.processes)} process{'' if len(snapshot.processes) == 1 else 'es'}"]
    words += [f"{idle} of them without a call"] if idle else []
    words += [many(snapshot.totals.calls, "calls"), f"{per_second(size, length)} requested"]
    words += [f"{snapshot.totals.unattributed} calls unattributed"] if snapshot.totals.unattributed else []
    words += [f"{name.replace('_', ' ')}: {count}" for name, count in snapshot.skipped._asdict().items() if count]
    return f"nccl {clock} {length:.1f} s: {', '.join(words)}"


def requests(operations: Sequence[Operation], length: float) -> Iterator[str]:
    """`AllReduce float32: 990 calls/s, 4.0 MB/s requested, 2.1 us a call`; of all ranks here together."""
    by_kind: defaultdict[tuple[str, str | None], list[Operation]] = defaultdict(list)
    for operation in operations:
        by_kind[operation.function, operation.datatype].append(operation)
    for (function, datatype), alike in by_kind.items():
        counters, size = sum_counters(alike), total_bytes(alike)
        words = [many(counters.calls / length, "calls/s")]
        if datatype is not None:
            words.append(f"{per_second(size, length)} requested")
        if counters.returned:
            words.append(f"{duration(counters.latency_ns / counters.returned)} a call")
        for one in alike:
            words += [f"{name}: {count}" for name, count in {**one.errors, **one.async_errors}.items()]
        yield f"{' '.join([function, *([datatype] if datatype else [])])}: {', '.join(words)}"


def rank_line(rank: Rank, communicator: Communicator | None, now_ns: int) -> str:
    """`rank 5 pid 4711 gpu 1: in no call for 4.3 s`"""
    words = [f"rank {known(rank.rank)} pid {rank.pid}"]
    if communicator is not None and communicator.device is not None:
        words.append(f"gpu {communicator.device}")
    elif rank.gpus:
        words.append(f"/dev/nvidia{','.join(map(str, rank.gpus))}")
    elif rank.job is not None and rank.job.visible_devices:
        words.append(f"CUDA_VISIBLE_DEVICES={rank.job.visible_devices}")
    return f"{' '.join(words)}: {doing(rank, now_ns)}"


def doing(rank: Rank, now_ns: int) -> str:
    """What a rank does: the call that it is in, or since when it is in none."""
    if rank.ended:
        return f"ended ({rank.exit or 'how is not known'})"
    if rank.left is not None:
        return f"left the communicator ({rank.left})"
    state = f" (state {rank.state})" if rank.state in ("T", "t", "D") else ""
    call = rank.open
    if call is not None and call.is_from_stack:
        return f"in {call.arguments} since before the tool came, by its stack{state}"
    if call is not None:
        return f"in {call.arguments} for {seconds(max(0, now_ns - call.since_ns))}{state}"
    if rank.returned is None:
        return f"{counted(rank.begun, 'collective')} begun; whether one is open is not known{state}"
    if rank.quiet_since_ns:
        return f"in no call for {seconds(max(0, now_ns - rank.quiet_since_ns))}{state}"
    if rank.is_open_known:
        return f"in no call{state}"
    return f"no call since the tool came; whether it is in an older one is not known{state}"


def carried(processes: Sequence[NcclProcess]) -> Iterator[str]:
    """What the NICs of these carried, for all their users."""
    nics = {process.nic.devices: process.nic for process in processes if process.nic and process.nic.devices}
    for devices, nic in nics.items():
        sizes = f"out {_bytes(nic.tx_bytes)}, in {_bytes(nic.rx_bytes)}"
        yield f"  {', '.join(devices)}: {sizes} in this interval, of all their users"


def nameless(snapshot: NcclSnapshot, *, with_title: bool) -> Iterator[str]:
    """Communicators that have no name on other hosts, by process, and calls of processes that have no other."""
    length = snapshot.interval_ns / 1e9
    shown = {(rank.pid, rank.address) for rank in snapshot.ranks if rank.communicator is not None}
    with_ranks = {pid for pid, _ in shown}
    for process in snapshot.processes:
        others = [one for one in process.communicators if (process.pid, one.address) not in shown]
        loose = [] if process.pid in with_ranks else list(requests(process.operations, length))
        if process.is_idle or not (others or loose or not process.probed):
            continue
        if with_title:
            yield f"job {NO_JOB}"
            with_title = False
        unseen = "" if process.probed else ": its calls are not seen"
        yield f"  pid {process.pid} {short_command(process.command)}{unseen}"
        yield from (f"    {text}" for text in loose)
        for one in others:
            yield f"    communicator {one.address:#x}: rank {known(one.rank)} of {known(one.nranks)}"
            yield from (f"      {text}" for text in requests(one.operations, (process.seen_ns or 0) / 1e9 or length))


def ended(snapshot: NcclSnapshot) -> Iterator[str]:
    """The processes that ended in this interval, and how."""
    how = {rank.pid: rank.exit for rank in snapshot.ranks if rank.ended}
    for process in snapshot.processes:
        if process.ended:
            exit_ = how.get(process.pid) or "or executes another program"
            yield f"ended: pid {process.pid} {short_command(process.command)} ({exit_})"


def many(number: float, what: str) -> str:
    """`2.0 k calls`"""
    return f"{scaled(number).rstrip()} {what}"


def per_second(size: int | None, length: float) -> str:
    """`4.1 MB/s`"""
    return "n/a" if size is None else f"{scaled(size / length)}B/s"


def duration(ns: float) -> str:
    """`2.1 us`, `12.0 ms`, `4.3 s`"""
    if ns < 1e6:
        return f"{ns / 1e3:.1f} us"
    return f"{ns / 1e6:.1f} ms" if ns < 1e9 else f"{ns / 1e9:.1f} s"


def _bytes(size: int | None) -> str:
    return "n/a" if size is None else f"{scaled(size)}B"


def _open_since(rank: Rank) -> int:
    return rank.open.since_ns if rank.open else rank.at_ns
