"""What NCCL's RAS service reports of communicators; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MOST_NAMED = 16
"""Ranks that are named with where they run, of each list."""


class RasRank(NamedTuple):
    """A rank and where it runs; None where the service does not say."""

    rank: int
    host: str
    pid: int | None = None
    cuda_device: int | None = None
    """as the process numbers them"""
    nvml_device: int | None = None
    """as the machine numbers them"""
    is_dead: bool | None = None
    """of a missing one: given up by the service; else it only does not answer"""

    def __str__(self) -> str:
        gpu = "" if self.cuda_device is None else f"/gpu{self.cuda_device}"
        return f"{self.rank}@{self.host}/{'?' if self.pid is None else self.pid}{gpu}"


class Behind(NamedTuple):
    """The ranks that called a collective least, where not all called it as often."""

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
    """ranks that have one"""
    counts: Mapping[str, tuple[int, int]]
    """collective -> least and most calls of a rank"""
    absent: tuple[RasRank, ...] = ()
    """the first MOST_NAMED of the missing ones"""
    behind: Mapping[str, Behind] = field(default_factory=dict)
    """by collective, of those whose counts differ"""
    processes: frozenset[tuple[str, int]] = frozenset()
    """host and pid of all its ranks: which job it belongs to"""
    nccl_version: str = ""
    """"": the report's"""
    age_ns: int = 0
    """since the answer that it is from; 0: the report's own"""

    @property
    def skew(self) -> int:
        """By how many calls of one collective the ranks differ, at most."""
        return max((most - least for least, most in self.counts.values()), default=0)


@dataclass(frozen=True)
class RasReport:
    """An answer of a RAS service, with what earlier ones reported of other jobs."""

    address: str
    at_ns: int
    """wall clock"""
    nccl_version: str
    communicators: tuple[RasCommunicator, ...]
    timeouts: int
    """of its own questions to other ranks"""
    unread: int = 0
    """communicators that were not understood"""
