"""Communicators as NCCL's RAS service reports them; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

MOST_NAMED = 16
"""Ranks per list that are shown with host, process and GPU."""


class RasRank(NamedTuple):
    """A rank and where it runs; None if the service does not report it."""

    rank: int
    host: str
    pid: int | None = None
    cuda_device: int | None = None
    """by the process's numbering"""
    nvml_device: int | None = None
    """by the machine's numbering"""
    is_dead: bool | None = None
    """of a missing rank: whether the service considers it dead, or it only does not answer"""

    def __str__(self) -> str:
        gpu = "" if self.cuda_device is None else f"/gpu{self.cuda_device}"
        return f"{self.rank}@{self.host}/{'?' if self.pid is None else self.pid}{gpu}"


class Behind(NamedTuple):
    """The ranks with the fewest calls of a collective, if ranks differ."""

    total: int
    ranks: tuple[RasRank, ...]
    """the first MOST_NAMED of them"""


@dataclass(frozen=True)
class RasCommunicator:
    """A communicator as NCCL's RAS service reports it."""

    name: str
    """its hashes"""
    size: int
    ranks: int
    """that answered"""
    missing: tuple[int, ...]
    """ranks"""
    async_errors: tuple[int, ...]
    """ranks with an asynchronous error"""
    counts: Mapping[str, tuple[int, int]]
    """collective -> fewest and most calls of a rank"""
    absent: tuple[RasRank, ...] = ()
    """the first MOST_NAMED missing ranks"""
    behind: Mapping[str, Behind] = field(default_factory=dict)
    """by collective, if its counts differ"""
    processes: frozenset[tuple[str, int]] = frozenset()
    """host and pid of all its ranks; they identify the job"""
    nccl_version: str = ""
    """empty: that of the report"""
    address: str = ""
    """of the service that reported it; empty: that of the report"""
    age_ns: int = 0
    """age of the answer it comes from; 0: the report's own"""
    known_as: str | None = None
    """its name among the ranks whose calls are seen here; None: not among them"""

    @property
    def skew(self) -> int:
        """Largest difference between ranks in calls of one collective."""
        return max((most - least for least, most in self.counts.values()), default=0)


@dataclass(frozen=True)
class RasReport:
    """An answer of a RAS service, with other jobs' communicators from earlier answers."""

    address: str
    at_ns: int
    """wall clock"""
    nccl_version: str
    communicators: tuple[RasCommunicator, ...]
    timeouts: int
    """of the service's queries to other ranks"""
    unread: int = 0
    """communicators that could not be parsed"""


def with_names(report: RasReport, names: Collection[str | None]) -> RasReport:
    """The report with the names of communicators that are among `names`, which are those of ranks seen here.

    From NCCL 2.26 on the first hash is the one that this tool computes from the unique id (nccl_probe.c): 64 bits that
    are equal on both sides are no coincidence, and nothing is said where they are not.
    """
    return replace(
        report, communicators=tuple(replace(one, known_as=_name_in(one, names)) for one in report.communicators)
    )


def _name_in(communicator: RasCommunicator, names: Collection[str | None]) -> str | None:
    try:
        name = f"{int(communicator.name.partition(':')[0], 16):016x}"
    except ValueError:
        return None
    return name if name in names else None
