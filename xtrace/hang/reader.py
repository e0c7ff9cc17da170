"""Reads the JSON Lines of several hosts: of each, what its last whole interval says of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from xtrace.errors import UsageError
from xtrace.hang.records import rank_of, time_ns
from xtrace.model.nccl_ranks import Rank, without_replaced
from xtrace.recorded import STDIN, Damaged
from xtrace.records import dataclass, field

SUFFIXES = (".jsonl", ".jsonl.gz")
"""Of the files in a directory that are read."""

MARK = b'"type":"nccl'
"""In every record that is needed here, as this tool writes it."""

STALE_INTERVALS = 3
"""A host whose last interval is older than the latest one by so many is not compared with the others."""
LEAST_STALE_NS = 2_000_000_000


Where = tuple[int, "int | None", "str | None"]


def where_of(rank: Rank) -> Where:
    """Process id, address and name of its communicator: another one may take the address."""
    return rank.pid, rank.address, rank.communicator


@dataclass
class HostView:
    """What the records of one host say."""

    end_ns: int = 0
    """of the last whole interval"""
    interval_ns: int = 0
    ranks: list[Rank] = field(default_factory=list)
    past: dict[Where, Rank] = field(default_factory=dict)
    """ranks whose process has ended, or that have left, in any interval; by the communicator's name, too"""
    pending: list[Rank] = field(default_factory=list)
    """of an interval that is not whole yet"""

    def all_ranks(self) -> Iterator[Rank]:
        """Those of the last interval, and those that were no more in an earlier one."""
        yield from self.ranks
        told = {where_of(rank) for rank in self.ranks}
        yield from (rank for where, rank in self.past.items() if where not in told)


class Hosts:
    """The records of all hosts."""

    def __init__(self) -> None:
        self.views: dict[str, HostView] = {}
        self.unread = 0
        """lines that are no records of this version"""
        self._has_others = False
        """whether some of these are records, of another version"""
        self.damaged: list[str] = []
        """compressed files of which only the beginning could be read"""
        self.empty: list[str] = []
        """files without records of mode nccl"""

    def read(self, lines: Iterable[bytes], name: str) -> None:
        """Take in a file's records. A line without its end is still being written, and left out."""
        found = False
        try:
            for line in lines:
                if MARK in line and line.endswith(b"\n"):
                    found = True
                    self._read(line)
        except Damaged:
            self.damaged.append(name)
        if not found:
            self.empty.append(name)

    def _read(self, line: bytes) -> None:
        try:
            record = orjson.loads(line)
        except ValueError:  # cut off where a run was killed
            self.unread += 1
            return
        try:
            self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unread += 1
            self._has_others = True

    def _take(self, record: dict[str, Any]) -> None:
        if record["type"] == "nccl_rank":
            rank = rank_of(record)
            self._view(rank.host).pending.append(rank)
        elif record["type"] == "nccl":
            view = self._view(record["host"])
            end_ns = time_ns(record["ts"])
            pending, view.pending = view.pending, []
            if end_ns < view.end_ns:  # another run's file, older
                return
            view.end_ns, view.interval_ns = end_ns, round(record["interval_s"] * 1e9)
            view.ranks = [rank for rank in pending if rank.at_ns == end_ns]
            view.past |= {where_of(rank): rank for rank in view.ranks if not rank.is_there}

    def _view(self, host: str) -> HostView:
        return self.views.setdefault(host, HostView())

    @property
    def now_ns(self) -> int:
        """End of the latest interval of all hosts."""
        return max((view.end_ns for view in self.views.values()), default=0)

    def stale(self) -> dict[str, int]:
        """Hosts whose records end earlier than those of others, and when: what their ranks do now is not known."""
        now = self.now_ns
        return {
            host: view.end_ns
            for host, view in self.views.items()
            if now - view.end_ns > max(LEAST_STALE_NS, STALE_INTERVALS * view.interval_ns)
        }

    @property
    def is_whole(self) -> bool:
        """Whether a rank that is not among ranks() is in no file: none of these was left out, not even in part."""
        return not (self.stale() or self.damaged or self.empty or self._has_others)

    def ranks(self) -> list[Rank]:
        """The ranks on all hosts that are not stale."""
        stale = self.stale()
        views = [view for host, view in self.views.items() if host not in stale]
        return list(without_replaced(rank for view in views for rank in view.all_ranks()))


def files_of(names: Iterable[str]) -> Iterator[str]:
    """The files that the names lead to: of a directory those that end in SUFFIX. Raises UsageError."""
    for name in names:
        path = Path(name)
        if name != STDIN and path.is_dir():
            found = sorted(str(file) for file in path.iterdir() if file.name.endswith(SUFFIXES))
            if not found:
                raise UsageError(
                    f"hang: {name}: no file there ends in {' or '.join(SUFFIXES)} (give the files by name)"
                )
            yield from found
        else:
            yield name
