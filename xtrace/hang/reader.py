"""Reads the JSON Lines of several hosts: of each, what its last whole interval says of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from xtrace.errors import UsageError
from xtrace.hang.records import rank_of, time_ns
from xtrace.model.nccl_ranks import Rank
from xtrace.recorded import STDIN, Damaged

SUFFIX = ".jsonl"
"""Of the files in a directory that are read."""

MARK = b'"type":"nccl'
"""In every record that is needed here, as this tool writes it."""

STALE_INTERVALS = 3
"""A host whose last interval is older than the latest one by so many is not compared with the others."""
LEAST_STALE_NS = 2_000_000_000


@dataclass
class HostView:
    """What the records of one host say."""

    end_ns: int = 0
    """of the last whole interval"""
    interval_ns: int = 0
    ranks: dict[tuple[int, int | None], Rank] = field(default_factory=dict)
    """by process id and the communicator's address"""
    ended: dict[tuple[int, int | None], Rank] = field(default_factory=dict)
    """the same of processes that ended, in any interval"""
    pending: dict[tuple[int, int | None], Rank] = field(default_factory=dict)
    """of an interval that is not whole yet"""


class Hosts:
    """The records of all hosts."""

    def __init__(self) -> None:
        self.views: dict[str, HostView] = {}
        self.unread = 0
        """lines that are no records of this version"""

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in records. A line without its end is still being written, and left out."""
        try:
            for line in lines:
                if MARK in line and line.endswith(b"\n"):
                    self._read(line)
        except Damaged:
            self.unread += 1

    def _read(self, line: bytes) -> None:
        try:
            self._take(orjson.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unread += 1

    def _take(self, record: dict[str, Any]) -> None:
        if record["type"] == "nccl_rank":
            rank = rank_of(record)
            self._view(rank.host).pending[rank.pid, rank.address] = rank
        elif record["type"] == "nccl":
            view = self._view(record["host"])
            end_ns = time_ns(record["ts"])
            pending, view.pending = view.pending, {}
            if end_ns < view.end_ns:  # another run's file, older
                return
            view.end_ns, view.interval_ns = end_ns, round(record["interval_s"] * 1e9)
            view.ranks = {where: rank for where, rank in pending.items() if rank.at_ns == end_ns}
            view.ended |= {where: rank for where, rank in view.ranks.items() if rank.ended}

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

    def ranks(self) -> list[Rank]:
        """The ranks on all hosts that are not stale."""
        stale = self.stale()
        return [
            rank
            for host, view in self.views.items()
            if host not in stale
            for rank in {**view.ended, **view.ranks}.values()
        ]


def files_of(names: Iterable[str]) -> Iterator[str]:
    """The files that the names lead to: of a directory those that end in SUFFIX. Raises UsageError."""
    for name in names:
        path = Path(name)
        if name != STDIN and path.is_dir():
            found = sorted(str(file) for file in path.iterdir() if file.name.endswith(SUFFIX))
            if not found:
                raise UsageError(f"hang: {name}: no file there ends in {SUFFIX} (give the files by name)")
            yield from found
        else:
            yield name
