"""Answers of NCCL's RAS service: how they are read, and what is kept of earlier ones (src/ras/client_support.cc)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from xtrace.errors import XtraceError
from xtrace.model.nccl_names import IN_PROGRESS
from xtrace.model.nccl_ras import MOST_NAMED, Behind, RasCommunicator, RasRank, RasReport
from xtrace.printable import printable

LONGEST_WORD = 64
MOST_NUMBER = (1 << 63) - 1
"""What listens on the port may be anybody's: nothing of it is taken as it comes."""
MOST_KEPT = 1000
"""Communicators of other answers that are remembered."""

_NO_COMMA = re.compile(rb'([^\s,{])(\s+"status"\s*:)')
"""NCCL 2.28.9 leaves out the comma between a missing rank's devices and its status."""

MALFORMED = (ValueError, KeyError, TypeError, AttributeError)


class RasError(XtraceError):
    """The service cannot be reached, or does not answer as it should."""


def parse_status(data: bytes, address: str, at_ns: int) -> RasReport:
    """The answer to a question for the status. Raises RasError for what it does not understand.

    One communicator that is not understood leaves the others alone.
    """
    try:
        document = load(data)
        read = [_read_communicator(found) for found in document["communicators"]]
        understood = tuple(one for one in read if isinstance(one, RasCommunicator))
        errors = [one for one in read if isinstance(one, Exception)]
        if errors and not understood:
            raise errors[0]
        return RasReport(
            address=address,
            at_ns=at_ns,
            nccl_version=word(document["nccl_version"]),
            communicators=understood,
            timeouts=number(document["ras"]["timeouts_count"]),
            unread=len(errors),
        )
    except MALFORMED as error:
        raise RasError(f"its answer is not understood: {type(error).__name__}: {error}") from error


def _read_communicator(found: Any) -> RasCommunicator | Exception:
    try:
        return parse_communicator(found)
    except MALFORMED as error:
        return error


def load(data: bytes) -> Any:
    """The document, with a comma where NCCL forgets it. Raises ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return orjson.loads(_NO_COMMA.sub(rb"\1,\2", data))


def number(value: object) -> int:
    """A number as NCCL writes it. Raises ValueError for any other."""
    if type(value) is not int or not 0 <= value <= MOST_NUMBER:
        raise ValueError(f"{str(value)[:LONGEST_WORD]!r} is no number of its")
    return value


def word(value: object) -> str:
    """A short text, without what a terminal would act upon."""
    return printable(str(value)[:LONGEST_WORD])


def parse_communicator(found: Mapping[str, Any]) -> RasCommunicator:
    """One element of `communicators`."""
    ranks = found["ranks"]
    calls: defaultdict[str, list[tuple[int, Any]]] = defaultdict(list)
    for rank in ranks:
        for name, count in rank["collective_counts"].items():
            calls[word(name)].append((number(count), rank))
    extremes = {
        name: (min(count for count, _ in counts), max(count for count, _ in counts)) for name, counts in calls.items()
    }
    return RasCommunicator(
        name=f"{word(found['hash'])}:{word(found['secondary_hash'])}",
        size=number(found["size"]),
        ranks=number(found["ranks_count"]),
        missing=tuple(number(rank["rank"]) for rank in found["missing_ranks"]),
        async_errors=tuple(
            number(rank["rank"]) for rank in ranks if rank["status"]["async_error"] not in (0, IN_PROGRESS)
        ),
        counts=extremes,
        absent=tuple(map(parse_rank, found["missing_ranks"][:MOST_NAMED])),
        behind={
            name: _behind([rank for count, rank in calls[name] if count == least])
            for name, (least, most) in extremes.items()
            if least != most
        },
        processes=frozenset(_processes([*ranks, *found["missing_ranks"]])),
    )


def _behind(ranks: list[Any]) -> Behind:
    return Behind(len(ranks), tuple(map(parse_rank, ranks[:MOST_NAMED])))


def parse_rank(found: Mapping[str, Any]) -> RasRank:
    """One element of `ranks` or `missing_ranks`: where it runs, as far as that is told."""
    status = found.get("status")
    dead = status.get("considered_dead") if isinstance(status, dict) else None
    return RasRank(
        rank=number(found["rank"]),
        host=word(found.get("host", "?")),
        pid=_optional(found.get("pid")),
        cuda_device=_optional(found.get("cuda_dev")),
        nvml_device=_optional(found.get("nvml_dev")),
        is_dead=dead if isinstance(dead, bool) else None,
    )


def _optional(value: object) -> int | None:
    """None also for what is no number: it says where a rank is, and nothing is counted by it."""
    return value if type(value) is int and 0 <= value <= MOST_NUMBER else None


def _processes(ranks: list[Any]) -> Iterator[tuple[str, int]]:
    for rank in ranks:
        pid = _optional(rank.get("pid"))
        if pid is not None:
            yield word(rank.get("host", "?")), pid


@dataclass
class _Kept:
    communicator: RasCommunicator
    at_ns: int


class RasMemory:
    """Communicators by name, newest first, until they were not heard of for so long.

    Jobs that share a port answer by chance.
    """

    def __init__(self, stale_ns: int) -> None:
        self._stale_ns = stale_ns
        self._kept: dict[str, _Kept] = {}

    def with_others(self, report: RasReport, now_ns: int) -> RasReport:
        """The report, and after its communicators those of other jobs, newest first. `now_ns` is monotonic."""
        own = {communicator.name: communicator for communicator in report.communicators}
        processes = frozenset().union(*(communicator.processes for communicator in own.values()))
        others = [
            kept
            for name, kept in self._kept.items()
            # one of the same processes that this answer no longer has was destroyed
            if name not in own
            and processes.isdisjoint(kept.communicator.processes)
            and now_ns - kept.at_ns <= self._stale_ns
        ]
        del others[MOST_KEPT:]
        told = [replace(communicator, nccl_version=report.nccl_version) for communicator in own.values()]
        self._kept = {
            kept.communicator.name: kept for kept in [*(_Kept(communicator, now_ns) for communicator in told), *others]
        }
        aged = [replace(kept.communicator, age_ns=now_ns - kept.at_ns) for kept in others]
        return replace(report, communicators=(*told, *aged))
