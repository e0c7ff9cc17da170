"""Which processes use NCCL, and in which files: looked for in all processes, again whenever one maps something new."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from xtrace.errors import ObjectError
from xtrace.kernel import proc
from xtrace.kernel.proc import MappedFile
from xtrace.kernel.symbols import function_offsets
from xtrace.model.nccl_names import FUNCTIONS

log = logging.getLogger(__name__)

REQUIRED = "ncclAllReduce"
"""Whatever file defines this has NCCL in it."""

NAMED = re.compile(r"/lib[nr]ccl\.so[^/]*$")
"""NVIDIA's and AMD's library; plugins have a dash behind the name."""

SYMBOLS = {f"nccl{function}": index for index, function in enumerate(FUNCTIONS)}
SYMBOLS["ncclAllToAll"] = FUNCTIONS.index("AlltoAll")  # RCCL's spelling
"""Symbol -> enum nccl_function. `pnccl...` are the same places, and not asked for."""

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

MOST_FILES = 16384
"""Files remembered, of all processes; beyond that they are looked into again."""


class Identity(NamedTuple):
    """What tells a file from all others, also from one that gets the inode of a file that was deleted.

    All of it is of a descriptor, that of which the symbols are read. What /proc/PID/maps says is not part of it: under
    that path the process may have made another file stand, in a mount namespace of its own. `changed_ns` (ctime)
    cannot be chosen as the time of modification can.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True)
class Library:
    """A file with NCCL in it."""

    identity: Identity
    path: str
    """as the process has it"""
    pid: int
    """a process by which it is reached"""
    file: MappedFile
    """as that one has it mapped"""
    offsets: dict[int, int]
    """enum nccl_function -> file offset; empty where its calls cannot be seen"""
    problem: str = ""
    """why they cannot"""


@dataclass
class User:
    """A process that uses NCCL."""

    pid: int
    start_time: int
    command: str
    container: str | None
    libraries: dict[Identity, Library] = field(default_factory=dict)
    left_out: dict[Identity, Library] = field(default_factory=dict)
    """files that define NCCL's functions, too: whether they only wrap the library, nobody can tell"""


class Finder:
    """Knows the processes that use NCCL as of its last scan()."""

    def __init__(self) -> None:
        self.users: dict[int, User] = {}
        self.refused: set[int] = set()
        """processes whose files this one may not know"""
        self._seen: dict[int, int] = {}
        """pages of address space, by process"""
        self._files: dict[Identity, dict[int, int]] = {}
        """where the functions stand in each file that was looked into"""

    def scan(self) -> None:
        """Look at what is new: processes, and those whose address space has changed its size."""
        present = set(proc.pids())
        for pid in self._seen.keys() - present:
            self._forget(pid)
        self.refused &= present
        for pid in present:
            self._look_at(pid)

    def _forget(self, pid: int) -> None:
        self._seen.pop(pid, None)
        self.users.pop(pid, None)

    def look_again(self, pid: int) -> User | None:
        """One process, now: of one that has called NCCL since the last scan."""
        self._look_at(pid)
        return self.users.get(pid)

    def look_anew(self, pid: int) -> None:
        """Let the next scan look at a process even if its address space has not changed: a file has."""
        self._seen.pop(pid, None)

    def _look_at(self, pid: int) -> None:
        pages = proc.mapped_size(pid)
        user = self.users.get(pid)
        if user is not None and proc.start_time(pid) != user.start_time:
            self._forget(pid)  # another process has its number
        if not pages:  # a kernel thread, or ended and not waited for
            self._forget(pid)
            return
        if self._seen.get(pid) == pages:
            return
        try:
            files = proc.executed_files(pid)
        except PermissionError:
            self.refused.add(pid)
            return
        self._seen[pid] = pages
        found = self._libraries(pid, files)
        if not found:
            self.users.pop(pid, None)
            return
        start_time = proc.start_time(pid)
        if start_time is not None:
            self.users[pid] = User(pid, start_time, proc.command(pid), proc.container(pid), *split(found))

    def _libraries(self, pid: int, files: Iterable[MappedFile]) -> list[Library]:
        """The files of a process that have NCCL's functions, or its name."""
        # one file may be mapped in pieces; numbers alone do not tell files apart (subvolumes of btrfs)
        once = {(file.device, file.inode, file.path): file for file in files}
        return [library for file in once.values() if (library := self._library(pid, file)) is not None]

    def _library(self, pid: int, file: MappedFile) -> Library | None:
        with reached(pid, file) as found:
            if found is None:
                return None
            path, identity = found
            try:
                offsets, problem = self._functions(identity, path), f"no symbol {REQUIRED} (stripped or hidden)"
            except OSError as error:
                log.debug("pid %d: %s: %s", pid, file.path, error)
                if error.errno not in (errno.EACCES, errno.EPERM):
                    return None  # gone
                offsets, problem = {}, f"it cannot be read: {error.strerror}"
        if not offsets and not NAMED.search(file.path):
            return None
        return Library(identity, file.path, pid, file, offsets, problem)

    def _functions(self, identity: Identity, path: str) -> dict[int, int]:
        """Where they stand; each file is looked into once."""
        if identity not in self._files:
            if len(self._files) >= MOST_FILES:
                self._files.clear()
            self._files[identity] = find_functions(path)
        return self._files[identity]


def split(found: Iterable[Library]) -> tuple[dict[Identity, Library], dict[Identity, Library]]:
    """Those to probe, and those left out: where the library itself is there, others may only wrap it."""
    everything = {library.identity: library for library in found}
    named = {identity: library for identity, library in everything.items() if NAMED.search(library.path)}
    if not named:
        return everything, {}
    return named, {identity: library for identity, library in everything.items() if identity not in named}


@contextmanager
def reached(pid: int, file: MappedFile) -> Iterator[tuple[str, Identity] | None]:
    """A mapped file, by a path of this process's own that leads to no other, and which file that is."""
    fd = proc.reach(pid, file)
    if fd is None:
        yield None
        return
    try:
        status = os.fstat(fd)
        # opening a device may do something; files of proc, which have no size, may wait or forget when they are read
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            yield None
            return
        yield (
            f"/proc/self/fd/{fd}",
            Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        )
    finally:
        os.close(fd)


@contextmanager
def opened(library: Library) -> Iterator[str]:
    """A path of this process's own that leads to the very file; OSError if another one stands there by now."""
    with reached(library.pid, library.file) as found:
        if found is None or found[1] != library.identity:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        yield found[0]


def find_functions(path: str) -> dict[int, int]:
    """Enum nccl_function -> file offset; {} where the file has no NCCL. Raises OSError where it cannot be read."""
    fd = os.open(path, OPEN_FLAGS)
    try:
        found = function_offsets(fd, list(SYMBOLS), REQUIRED)
    except ObjectError as error:
        log.debug("%s: %s", path, error)
        return {}
    finally:
        os.close(fd)
    offsets: dict[int, int] = {}
    for name, offset in found.items():
        if offset not in offsets.values():  # functions that were folded into one are one
            offsets.setdefault(SYMBOLS[name], offset)
    return offsets
