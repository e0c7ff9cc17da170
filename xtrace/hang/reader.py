"""Reads the JSON Lines of several hosts: of each, what its last whole interval says of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any

import orjson

from xtrace.errors import UsageError
from xtrace.hang.records import rank_of, time_ns
from xtrace.model.nccl_ranks import Rank, without_replaced
from xtrace.recorded import STDIN, Damaged

SUFFIXES = (".jsonl", ".jsonl.gz")
"""Of the files in a directory that are read."""

MARK = b'"type":"nccl'
"""In every record that is needed here, as this tool writes it."""

STALE_INTERVALS = 3
"""A host whose last interval is older than the latest one by so many is not compared with the others."""
LEAST_STALE_NS = 2_000_000_000
ROUNDED_NS = 2_000_000
"""How far the files of a rotated log may seem to overlap: a record's end and its length are in ms."""


Where = tuple[int, "int | None", "str | None"]


def where_of(rank: Rank) -> Where:
    """Process id, address and name of its communicator: another one may take the address."""
    return rank.pid, rank.address, rank.communicator


@dataclass
class Span:
    """From the beginning of a file's first whole interval to the end of its last one."""

    begin_ns: int
    end_ns: int

    def overlaps(self, other: Span) -> bool:
        """Whether they have time in common, and are not of copies of one file."""
        common_ns = min(self.end_ns, other.end_ns) - max(self.begin_ns, other.begin_ns)
        return self != other and common_ns > ROUNDED_NS


@dataclass
class HostView:
    """What the records of one host say."""

    spans: dict[str, Span] = field(default_factory=dict)
    """what each file has of it"""
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

    @property
    def begin_ns(self) -> int:
        """Beginning of the first whole interval in any file."""
        return min((span.begin_ns for span in self.spans.values()), default=0)

    def after(self, earlier: HostView) -> HostView:
        """It goes on where another one ended: the host has had another address since."""
        ended = {where_of(rank): rank for rank in earlier.ranks if not rank.is_there}
        return replace(self, past=earlier.past | ended | self.past)


Address = tuple[str, "str | None"]
"""`host` and `host_ip`: hosts may have one name."""


class Hosts:
    """The records of all hosts."""

    def __init__(self) -> None:
        self._views: dict[Address, HostView] = {}
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
                    self._read(line, name)
        except Damaged:
            self.damaged.append(name)
        if not found:
            self.empty.append(name)

    def _read(self, line: bytes, name: str) -> None:
        try:
            record = orjson.loads(line)
        except ValueError:  # cut off where a run was killed
            self.unread += 1
            return
        try:
            self._take(record, name)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            self.unread += 1
            self._has_others = True

    def _take(self, record: dict[str, Any], name: str) -> None:
        if record["type"] == "nccl_rank":
            rank = rank_of(record)
            self._view(record).pending.append(rank)
        elif record["type"] == "nccl":
            view = self._view(record)
            end_ns = time_ns(record["ts"])
            pending, view.pending = view.pending, []
            interval_ns = round(record["interval_s"] * 1e9)
            view.spans.setdefault(name, Span(end_ns - interval_ns, end_ns)).end_ns = end_ns
            if end_ns < view.end_ns:  # another run's file, older
                return
            view.end_ns, view.interval_ns = end_ns, interval_ns
            view.ranks = [rank for rank in pending if rank.at_ns == end_ns]
            view.past |= {where_of(rank): rank for rank in view.ranks if not rank.is_there}

    def _view(self, record: dict[str, Any]) -> HostView:
        if not isinstance(record["host"], str):
            raise TypeError
        return self._views.setdefault((record["host"], record.get("host_ip")), HostView())

    @property
    def views(self) -> dict[str, HostView]:
        """By host; where several have one name, with their addresses."""
        found: dict[str, HostView] = {}
        by_name = groupby(sorted(self._views.items(), key=lambda item: item[0][0]), key=lambda item: item[0][0])
        for name, group in by_name:
            found |= _told_apart(name, {address: view for (_, address), view in group})
        return found

    @property
    def now_ns(self) -> int:
        """End of the latest interval of all hosts."""
        return max((view.end_ns for view in self._views.values()), default=0)

    def stale(self) -> dict[str, int]:
        """Hosts whose records end earlier than those of others, and when: what their ranks do now is not known."""
        now = self.now_ns
        return {
            host: view.end_ns
            for host, view in self.views.items()
            if now - view.end_ns > max(LEAST_STALE_NS, STALE_INTERVALS * view.interval_ns)
        }

    def doubtful(self) -> dict[str, list[str]]:
        """Hosts of which two files have the same time, and these: perhaps they are two hosts of one name."""
        return {
            host: sorted({name for pair in pairs for name, _ in pair})
            for host, view in self.views.items()
            if (pairs := [pair for pair in combinations(view.spans.items(), 2) if pair[0][1].overlaps(pair[1][1])])
        }

    @property
    def is_whole(self) -> bool:
        """Whether a rank that is not among ranks() is in no file: none of these was left out, not even in part."""
        return not (self.stale() or self.doubtful() or self.damaged or self.empty or self._has_others)

    def ranks(self) -> list[Rank]:
        """The ranks on all hosts that are not stale."""
        stale = self.stale()
        views = {host: view for host, view in self.views.items() if host not in stale}
        ranks = (replace(rank, host=host) for host, view in views.items() for rank in view.all_ranks())
        return list(without_replaced(ranks))


def _told_apart(name: str, views: dict[str | None, HostView]) -> dict[str, HostView]:
    """Hosts of one name by a name of their own. Runs one after the other are of one host, whose address has changed."""
    in_order = sorted(views.values(), key=lambda view: view.begin_ns)
    if any(later.begin_ns < earlier.end_ns for earlier, later in pairwise(in_order)):
        return {f"{name} ({address or 'no address'})": view for address, view in views.items()}
    return {name: reduce(lambda earlier, later: later.after(earlier), in_order)}


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
