"""Which processes use NCCL: all are watched, and those whose address space has changed are searched, step by step.

What a process maps is its user's choice. So the time this takes is bounded, shared out by user (turns.py), and what
was not searched is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from xtrace.kernel import proc
from xtrace.kernel.proc import MappedFile
from xtrace.model.nccl import Skipped
from xtrace.model.nccl_ranks import Job
from xtrace.monitors.nccl.job import job_of
from xtrace.monitors.nccl.libraries import NAMED, Identity, Library, SearchedFiles, split
from xtrace.monitors.nccl.turns import Turns

SWEEP_NS = 100_000_000
"""How long one round looks for changes; the next one goes on where it ended."""

SEARCH_SHARE = 5
"""Searching takes one part in so many of a CPU's time ..."""
MOST_SAVED_NS = 2_000_000_000
"""... but may make up for time in which there was nothing to search: at the start, and when a job starts."""

MOST_FILES = 1024
"""Files of one process that are searched, those named like NCCL first."""

MOST_LIBRARIES = 16
"""Files with NCCL's functions of one process."""


@dataclass
class User:
    """A process that uses NCCL."""

    pid: int
    start_time: int
    command: str
    container: str | None
    libraries: dict[Identity, Library] = field(default_factory=dict)
    left_out: dict[Identity, Library] = field(default_factory=dict)
    """other files that define NCCL's functions: whether they only wrap the library is unknown"""
    uid: int = 0
    job: Job | None = None
    pod: str | None = None
    is_cut: bool = False
    """whether more is mapped than was searched"""


class Finder:
    """Knows the processes that use NCCL as of the last search. Not for two threads at a time."""

    def __init__(self, clock: Callable[[], int] = time.thread_time_ns) -> None:
        self.users: dict[int, User] = {}
        self.gone: dict[int, User] = {}
        """users that ended; the caller empties it"""
        self.refused: set[int] = set()
        """processes that must not be searched (ptrace access)"""
        self.cut: dict[int, str] = {}
        """process -> what of it is more than is searched"""
        self._clock = clock
        self._seen: dict[int, int] = {}
        """process -> pages of address space"""
        self._unswept: list[int] = []
        self._turns = Turns()
        self._files = SearchedFiles()
        self._saved_ns = MOST_SAVED_NS

    def skipped(self) -> Skipped:
        """How many processes wait to be searched, and how many were searched in part only."""
        return Skipped(waiting_processes=len(self._turns), cut_processes=len(self.cut))

    def sweep(self) -> None:
        """Queue the processes that are new, or whose address space has changed its size."""
        self._turns.forgive()
        present = set(proc.pids())
        for pid in (self._seen.keys() | self.users.keys()) - present:
            self._forget(pid)
        self.refused &= present
        begun = self._clock()
        if not self._unswept:
            self._unswept = list(present)
        while self._unswept and self._clock() - begun < SWEEP_NS:
            self._notice(self._unswept.pop())

    def grant(self, elapsed_ns: int) -> None:
        """Time has passed: a part of it may be spent on searching."""
        self._saved_ns = min(self._saved_ns + elapsed_ns // SEARCH_SHARE, MOST_SAVED_NS)

    def step(self) -> bool:
        """Search a little; False if there is nothing to search, or no time granted."""
        if not len(self._turns) or self._saved_ns <= 0:
            return False
        begun = self._clock()
        self._turns.step()
        self._saved_ns -= self._clock() - begun
        return True

    def look_anew(self, pid: int) -> None:
        """Search a process again even if its address space does not change: one of its files did."""
        self._seen.pop(pid, None)

    def _forget(self, pid: int) -> None:
        self._seen.pop(pid, None)
        self._set_user(pid, None)
        self.cut.pop(pid, None)

    def _set_user(self, pid: int, user: User | None) -> None:
        before = self.users.pop(pid, None)
        if before is not None and (user is None or user.start_time != before.start_time):
            self.gone[pid] = before
        if user is not None:
            self.users[pid] = user

    def _notice(self, pid: int) -> None:
        pages = proc.mapped_size(pid)
        user = self.users.get(pid)
        if user is not None and proc.start_time(pid) != user.start_time:
            self._forget(pid)  # another process has its pid
        if not pages:  # a kernel thread, or a zombie
            self._forget(pid)
            return
        uid = None if self._seen.get(pid) == pages else proc.real_uid(pid)
        if uid is not None:
            self._seen[pid] = pages
            self._turns.add(uid, pid, self._search(pid, uid))

    def _search(self, pid: int, uid: int) -> Iterator[None]:
        """Find the files of a process that have NCCL's functions, and take note of it as a user."""
        start_time = proc.start_time(pid)
        self.cut.pop(pid, None)
        named: dict[tuple[str, int, str], MappedFile] = {}
        others: dict[tuple[str, int, str], MappedFile] = {}
        try:
            for files in proc.executed_files(pid):
                self._sort(pid, files, named, others)
                yield
        except PermissionError:
            self.refused.add(pid)
            self._seen.pop(pid, None)
            return
        except proc.TooManyMappings as error:
            self.cut[pid] = str(error)
        found: list[Library] = []
        for file in islice(chain(named.values(), others.values()), MOST_FILES):
            library = self._files.library(pid, file)
            if library is not None and library.is_oversized:
                self.cut[pid] = f"{file.path}: {library.problem}"
            if library is not None and library.is_user:
                found.append(library)
            if len(found) > MOST_LIBRARIES:
                self.cut[pid] = f"more than {MOST_LIBRARIES} files with NCCL's functions"
                break
            yield
        if start_time is None or proc.start_time(pid) != start_time:
            self._seen.pop(pid, None)
        else:
            self._set_user(pid, self._user(pid, start_time, uid, found[:MOST_LIBRARIES]) if found else None)

    def _sort(
        self,
        pid: int,
        files: Iterable[MappedFile],
        named: dict[tuple[str, int, str], MappedFile],
        others: dict[tuple[str, int, str], MappedFile],
    ) -> None:
        """Each file once, though it is mapped in pieces; no more than are searched."""
        for file in files:
            # device and inode alone do not identify a file (subvolumes of btrfs)
            kind = named if NAMED.search(file.path) else others
            if len(kind) < MOST_FILES:
                kind.setdefault((file.device, file.inode, file.path), file)
            else:
                self.cut[pid] = f"more than {MOST_FILES} files mapped executable"

    def _user(self, pid: int, start_time: int, uid: int, found: Iterable[Library]) -> User:
        libraries, left_out = split(found)
        known = look_up(pid, start_time)
        return replace(known, libraries=libraries, left_out=left_out, uid=uid, is_cut=pid in self.cut)


def look_up(pid: int, start_time: int) -> User:
    """What can be read of a process at once, without a search."""
    job, place = job_of(proc.environment(pid)), proc.place(pid)
    return User(pid, start_time, proc.command(pid), place.container, job=job, pod=place.pod)
