"""Text of mode nccl: a block per process, then a line for the interval."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from xtrace.model.nccl import (
    Communicator,
    NcclProcess,
    NcclSnapshot,
    Operation,
    sum_counters,
    total_bytes,
)
from xtrace.model.nccl_ranks import OpenCall
from xtrace.model.nccl_ras import RasRank, RasReport
from xtrace.sinks.render import short_id
from xtrace.sinks.text.nccl_ranks import NOTE, verdict_lines

NOT_KNOWN = "n/a"
MOST_SHOWN = 4
"""Ranks that a line names with where they run."""


class NcclText:
    """Processes, communicators, operations."""

    def lines(self, snapshot: NcclSnapshot) -> Iterator[str]:
        """All lines of one interval."""
        return nccl_lines(snapshot)

    def totals(self, totals: object) -> tuple[str, ...]:
        """Nothing: lines of words have no totals."""
        return ()


def nccl_lines(snapshot: NcclSnapshot) -> Iterator[str]:
    """All lines of one interval."""
    for line in verdict_lines(snapshot.verdicts, snapshot.end_ns):
        yield line + "\n"
    if snapshot.verdicts:
        yield f"{NOTE}\n"
    opened = {(rank.pid, rank.address): rank.open for rank in snapshot.ranks if rank.open}
    idle = 0
    for process in snapshot.processes:
        if process.is_idle:  # counted, without its own line
            idle += 1
            continue
        seconds = (process.seen_ns or snapshot.interval_ns) / 1e9
        yield process_line(process, seconds, snapshot.has_returns) + "\n"
        for communicator in process.communicators:
            call = opened.get((process.pid, communicator.address))
            for line in communicator_lines(communicator, seconds, call, snapshot.end_ns):
                yield f"  {line}\n"
        for operation in process.operations:
            yield f"  {operation_text(operation, seconds)}\n"
    if snapshot.ras is not None:
        yield from ras_lines(snapshot.ras)
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
    seconds = snapshot.interval_ns / 1e9
    requested = total_bytes(operation for process in snapshot.processes for operation in process.all_operations())
    skipped = "".join(f" {name}={count}" for name, count in snapshot.skipped._asdict().items() if count)
    yield (
        f"nccl {clock} {seconds:.1f}s processes={len(snapshot.processes)} idle={idle}"
        f" calls={snapshot.totals.calls} requested={known(requested)} unattributed={snapshot.totals.unattributed}"
        f"{skipped}\n"
    )


def process_line(process: NcclProcess, seconds: float, has_returns: bool) -> str:
    """`nccl pid=4711 communicators=1 calls=120 requested=... devices=mlx5_0 nic_tx=... [python train.py]`"""
    operations = list(process.all_operations())
    words = [f"nccl pid={process.pid}", f"communicators={len(process.communicators)}"]
    if process.probed:
        errors = sum(sum(operation.errors.values()) for operation in operations)
        words.append(f"calls={sum_counters(operations).calls} {requested(total_bytes(operations), seconds)}")
        words.append(f"errors={errors if has_returns else NOT_KNOWN}")
    else:
        words.append(f"calls={NOT_KNOWN} requested={NOT_KNOWN}")
    if process.cuda_devices:
        words.append(f"gpus={','.join(map(str, process.cuda_devices))}")
    words += nic_words(process, seconds)
    if process.container:
        words.append(f"container={short_id(process.container)}")
    return " ".join([*words, f"[{process.command}]", *(["ended"] if process.ended else [])])


def nic_words(process: NcclProcess, seconds: float) -> Iterator[str]:
    """Traffic of its devices, of all their users: not comparable with its own requested bytes."""
    nic = process.nic
    if nic is None:
        yield f"devices={NOT_KNOWN}"
        return
    yield f"devices={','.join(nic.devices) or 'none'}"
    yield f"qps={known(nic.queue_pairs)}"
    yield f"nic_tx={rate(nic.tx_bytes, seconds)} nic_rx={rate(nic.rx_bytes, seconds)}"


def communicator_lines(
    communicator: Communicator, seconds: float, call: OpenCall | None = None, now_ns: int = 0
) -> Iterator[str]:
    """`0x5581 rank=0/8 gpu=0 AllReduce bfloat16 calls=100 ...`, one line per function and datatype.

    `call`: the one that it is in, `now_ns`: wall clock.
    """
    rank = f"rank={known(communicator.rank)}/{known(communicator.nranks)}"
    gpu = "" if communicator.device is None else f" gpu={communicator.device}"
    name = f"{communicator.address:#x} {rank}{gpu}"
    if call is not None:
        yield f"{name} in {call.arguments} for {max(0, now_ns - call.since_ns) / 1e9:.1f}s thread={call.thread}"
    elif not communicator.operations:
        yield f"{name} idle"
    for operation in communicator.operations:
        yield f"{name} {operation_text(operation, seconds)}"


def operation_text(operation: Operation, seconds: float) -> str:
    """`AllReduce bfloat16 calls=100 elements=1000 requested=2000 (400 B/s) latency=12.3us`"""
    counters = operation.counters
    words = [operation.function]
    if operation.datatype is not None:
        words.append(operation.datatype)
    words.append(f"calls={counters.calls}")
    if operation.datatype is not None:
        words += [f"elements={counters.elements}", requested(operation.requested_bytes, seconds)]
    if counters.returned:
        words.append(f"latency={counters.latency_ns / counters.returned / 1000:.1f}us")
    words += [f"{name}={count}" for name, count in operation.errors.items()]
    words += [f"async_{name}={count}" for name, count in operation.async_errors.items()]
    return " ".join(words)


def ras_lines(report: RasReport) -> Iterator[str]:
    """`ras 0x123 ranks=7/8 missing=3 skew=2 (AllReduce 10..12)`"""
    for communicator in report.communicators:
        words = [f"ras {communicator.name}"]
        if communicator.known_as is not None:
            words.append(f"communicator={communicator.known_as}")
        words.append(f"ranks={communicator.ranks}/{communicator.size}")
        words.append(f"missing={','.join(map(str, communicator.missing)) or 'none'} skew={communicator.skew}")
        words += [f"{name}={least}..{most}" for name, (least, most) in communicator.counts.items() if least != most]
        if communicator.async_errors:
            words.append(f"async_errors={','.join(map(str, communicator.async_errors))}")
        if communicator.absent:
            words.append(f"missing_at={places(communicator.absent, len(communicator.missing))}")
        words += [f"behind_{name}={places(last.ranks, last.total)}" for name, last in communicator.behind.items()]
        if communicator.age_ns:
            words.append(f"age={communicator.age_ns / 1e9:.0f}s")
        yield " ".join(words) + "\n"


def places(ranks: Sequence[RasRank], count: int) -> str:
    """`2@192.0.2.2/2000/gpu0,+3`: rank, host, pid, GPU of the first, and how many more there are."""
    more = count - min(len(ranks), MOST_SHOWN)
    return ",".join([*map(str, ranks[:MOST_SHOWN]), *([f"+{more}"] if more > 0 else [])])


def requested(size: int | None, seconds: float) -> str:
    """`requested=2000 (400 B/s)`"""
    return f"requested={known(size)}" + ("" if size is None else f" ({size / seconds:.0f} B/s)")


def rate(size: int | None, seconds: float) -> str:
    """Bytes per second."""
    return NOT_KNOWN if size is None else f"{size / seconds:.0f}B/s"


def known(number: int | None) -> str:
    """The number, or `n/a`."""
    return NOT_KNOWN if number is None else str(number)
