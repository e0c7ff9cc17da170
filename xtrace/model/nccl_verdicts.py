"""What may be wrong with a communicator: kinds of verdicts, and what is normal. No I/O, nothing of the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from xtrace.model import nccl_limits
from xtrace.model.limits import Limit
from xtrace.model.nccl_ranks import Identity, Rank


class Limits(NamedTuple):
    """What is normal."""

    hang_ns: int | None
    """ranks may wait for another one for so long; None: without end"""
    late_ns: int | None
    """a rank may begin a call so much later than the others do"""

    @classmethod
    def of(cls, thresholds: Mapping[str, Limit]) -> Limits:
        """Return what the thresholds of nccl_limits.LIMITS, perhaps changed, say."""
        seconds = (thresholds[name].warn for name in ("hang", "late"))
        return cls(*(None if limit is None else round(limit * 1e9) for limit in seconds))


NORMAL = Limits.of(nccl_limits.LIMITS)


class Kind(str, Enum):
    """What is wrong, worst first."""

    GONE = "gone"
    """the process has ended"""
    STOPPED = "stopped"
    """the process is stopped, or in uninterruptible sleep"""
    MISMATCH = "mismatch"
    """it made the call with another function, count, datatype or root than the others"""
    OPEN_SEND = "open_send"
    """it is in a send that the other rank has no receive for"""
    MISSING = "missing"
    """it has not made the call that the others made"""
    ALL_STOPPED = "all_stopped"
    """all ranks are in the same call"""
    LATE = "late"
    """it begins calls later than the others"""


ORDER = list(Kind)


class Covered(Enum):
    """Where the ranks that are judged were looked for."""

    ONE_HOST = auto()
    """others may be on other hosts"""
    IN_PART = auto()
    """on all hosts, but the records of some are left out, or end early"""
    ALL_HOSTS = auto()
    """a rank that is not among them is nowhere else, either"""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with one rank of a communicator, or with all."""

    kind: Kind
    communicator: str
    identity: Identity | None
    since_ns: int
    evidence: str
    number: int | None = None
    """of the call that the others wait in; None: not known"""
    function: str | None = None
    """that they are in"""
    waiting: tuple[int, ...] = ()
    """ranks"""
    nranks: int | None = None
    rank: int | None = None
    """None: all, or its number is not known"""
    peer: int | None = None
    culprit: Rank | None = None
    """None: it was not seen, or there is none"""
    job: str | None = None
