"""Answers of NCCL's RAS service: parsing, and what is kept of earlier ones (src/ras/client_support.cc)."""

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
"""Limits on answers: anything may listen on that port."""
MOST_KEPT = 1000
"""Communicators of earlier answers that are kept."""

_NO_COMMA = re.compile(rb'([^\s,{])(\s+"status"\s*:)')
"""NCCL 2.28.9 omits the comma between a missing rank's devices and its status."""

MALFORMED = (ValueError, KeyError, TypeError, AttributeError)


class RasError(XtraceError):
    """The service cannot be reached, or its answer is invalid."""


def parse_status(data: bytes, address: str, at_ns: int) -> RasReport:
    """Parse the answer to a status query. Raises RasError if it is invalid.

    A communicator that cannot be parsed does not affect the others.
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
        raise RasError(f"cannot parse the answer: {type(error).__name__}: {error}") from error


def _read_communicator(found: Any) -> RasCommunicator | Exception:
    try:
        return parse_communicator(found)
    except MALFORMED as error:
        return error


def load(data: bytes) -> Any:
    """Parse the document, adding the comma that NCCL omits. Raises ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return orjson.loads(_NO_COMMA.sub(rb"\1,\2", data))


def number(value: object) -> int:
    """A non-negative number of 63 bits. Raises ValueError otherwise."""
    if type(value) is not int or not 0 <= value <= MOST_NUMBER:
        raise ValueError(f"{str(value)[:LONGEST_WORD]!r} is not a valid number")
    return value


def word(value: object) -> str:
    """A short text, without control characters."""
    return printable(str(value)[:LONGEST_WORD])


def parse_communicator(found: Mapping[str, Any]) -> RasCommunicator:
    """Parse an element of `communicators`."""
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
    """Parse an element of `ranks` or `missing_ranks`: where it runs, as far as reported."""
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
    """A number, or None: it only shows where a rank runs, so a bad one is not an error."""
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
    """Keeps communicators that earlier answers reported, newest first, until they are stale.

    If jobs share a port, a random one answers.
    """

    def __init__(self, stale_ns: int) -> None:
        self._stale_ns = stale_ns
        self._kept: dict[str, _Kept] = {}

    def with_others(self, report: RasReport, now_ns: int) -> RasReport:
        """The report with the communicators of other jobs appended, newest first. `now_ns` is monotonic."""
        own = {communicator.name: communicator for communicator in report.communicators}
        processes = frozenset().union(*(communicator.processes for communicator in own.values()))
        others = [
            kept
            for name, kept in self._kept.items()
            # one of the same processes that is no longer reported was destroyed
            if name not in own
            and processes.isdisjoint(kept.communicator.processes)
            and now_ns - kept.at_ns <= self._stale_ns
        ]
        del others[MOST_KEPT:]
        current = [replace(communicator, nccl_version=report.nccl_version) for communicator in own.values()]
        self._kept = {
            kept.communicator.name: kept
            for kept in [*(_Kept(communicator, now_ns) for communicator in current), *others]
        }
        aged = [replace(kept.communicator, age_ns=now_ns - kept.at_ns) for kept in others]
        return replace(report, communicators=(*current, *aged))
