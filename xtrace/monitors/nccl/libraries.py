"""Files with NCCL in them: where its functions are, and which file a process has mapped."""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from xtrace.errors import ObjectError
from xtrace.kernel import proc, uprobe
from xtrace.kernel.proc import MappedFile
from xtrace.kernel.symbols import Extent, TooLarge, function_extents, function_offsets, functions_like
from xtrace.model.nccl_names import FUNCTIONS

log = logging.getLogger(__name__)

REQUIRED = "ncclAllReduce"
"""A file that defines this has NCCL in it."""

NAMED = re.compile(r"/lib[nr]ccl\.so[^/]*$")
"""NVIDIA's and AMD's library; the names of plugins continue with a dash."""

SYMBOLS = {f"nccl{function}": index for index, function in enumerate(FUNCTIONS)}
SYMBOLS["ncclAllToAll"] = FUNCTIONS.index("AlltoAll")  # RCCL's spelling
"""Symbol -> enum nccl_function. `pnccl...` are at the same offsets."""

LIKE_COLLECTIVES = (
    "nccl[A-Za-z0-9]*(?:Reduce|Gather|Scatter|Broadcast|Bcast|AlltoAll|AllToAll|Alltoall|Send|Recv|Signal)[A-Za-z0-9]*"
)
"""What names of functions look like that move data."""

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

MOST_REMEMBERED = 16384
"""Files of all processes whose search is remembered; others are searched again."""

NO_SYMBOL = f"no symbol {REQUIRED} (stripped or hidden)"
OVERSIZED = "symbol tables too large to be searched"


class Identity(NamedTuple):
    """Identifies a file, also against one that reuses the inode of a deleted file.

    All of it is from the descriptor that the symbols are read from, nothing from /proc/PID/maps: in its own mount
    namespace a process can put another file under that path. `changed_ns` (ctime) cannot be set like the time of
    modification.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True)
class Library:
    """A file that a process has mapped, and what NCCL it has."""

    identity: Identity
    path: str
    """in the process's mount namespace"""
    pid: int
    """a process through which it is reached"""
    file: MappedFile
    """its mapping in that process"""
    offsets: dict[int, int]
    """enum nccl_function -> file offset; empty if its calls cannot be seen"""
    problem: str = ""
    """why not"""
    unknown: tuple[str, ...] = ()
    """functions that look like collectives, and are not probed"""
    dear: tuple[str, ...] = ()
    """functions that are probed and begin with an instruction that the kernel must single-step"""

    @property
    def is_oversized(self) -> bool:
        """Whether its symbol tables were not searched."""
        return not self.offsets and self.problem == OVERSIZED

    @property
    def is_user(self) -> bool:
        """Whether a process that maps it uses NCCL, as far as names tell."""
        return bool(self.offsets) or NAMED.search(self.path) is not None


class Searched(NamedTuple):
    """What was found in a file: the last fields of Library."""

    offsets: dict[int, int]
    problem: str
    """why there are none, if there are none"""
    unknown: tuple[str, ...] = ()
    dear: tuple[str, ...] = ()


class SearchedFiles:
    """Searches files for NCCL's functions, each file once."""

    def __init__(self) -> None:
        self._files: OrderedDict[Identity, Searched] = OrderedDict()
        """the least recently used first"""

    def library(self, pid: int, file: MappedFile) -> Library | None:
        """A file that a process has mapped: what NCCL it has. None if it cannot be reached, or has no content."""
        with reached(pid, file) as found:
            if found is None:
                return None
            path, identity = found
            try:
                found_in = self._search(identity, path)
            except OSError as error:
                log.debug("pid %d: %s: %s", pid, file.path, error)
                if error.errno not in (errno.EACCES, errno.EPERM):
                    return None  # gone
                found_in = Searched({}, f"it cannot be read: {error.strerror}")
        return Library(identity, file.path, pid, file, *found_in)

    def _search(self, identity: Identity, path: str) -> Searched:
        if identity in self._files:
            self._files.move_to_end(identity)
            return self._files[identity]
        if len(self._files) >= MOST_REMEMBERED:
            self._files.popitem(last=False)
        try:
            offsets = find_functions(path)
            found = Searched(offsets, NO_SYMBOL)
            if offsets:
                cheap, dear = find_cheap(path, offsets)
                found = Searched(cheap, "", find_unknown(path), dear)
        except TooLarge as error:
            log.debug("%s: %s", path, error)
            found = Searched({}, OVERSIZED)
        self._files[identity] = found
        return found


def split(found: Iterable[Library]) -> tuple[dict[Identity, Library], dict[Identity, Library]]:
    """The files to probe, and those left out: next to the library itself, others may be wrappers of it."""
    everything = {library.identity: library for library in found}
    named = {identity: library for identity, library in everything.items() if NAMED.search(library.path)}
    if not named:
        return everything, {}
    return named, {identity: library for identity, library in everything.items() if identity not in named}


@contextmanager
def reached(pid: int, file: MappedFile) -> Iterator[tuple[str, Identity] | None]:
    """A path of this process that leads to exactly the mapped file, and that file's identity."""
    fd = proc.reach(pid, file)
    if fd is None:
        yield None
        return
    try:
        status = os.fstat(fd)
        # opening a device has effects; proc files, which have size 0, may block or lose data when read
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
    """A path of this process that leads to exactly this file. Raises OSError if another file has replaced it."""
    with reached(library.pid, library.file) as found:
        if found is None or found[1] != library.identity:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        yield found[0]


def find_functions(path: str) -> dict[int, int]:
    """Enum nccl_function -> file offset; {} if the file has no NCCL.

    Raises OSError if it cannot be read, TooLarge if its symbol tables are too large.
    """
    fd = os.open(path, OPEN_FLAGS)
    try:
        found = function_offsets(fd, list(SYMBOLS), REQUIRED)
    except TooLarge:
        raise
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


def find_extents(path: str) -> dict[int, Extent]:
    """Enum nccl_function -> place and size in the file of a probed library. Raises OSError or ObjectError."""
    fd = os.open(path, OPEN_FLAGS)
    try:
        found = function_extents(fd, list(SYMBOLS), REQUIRED)
    finally:
        os.close(fd)
    return {SYMBOLS[name]: extent for name, extent in found.items()}


def find_unknown(path: str) -> tuple[str, ...]:
    """Functions that look like collectives and are none that this version knows. Raises as find_functions() does."""
    fd = os.open(path, OPEN_FLAGS)
    try:
        return tuple(sorted(functions_like(fd, LIKE_COLLECTIVES, REQUIRED) - SYMBOLS.keys()))
    except TooLarge:
        raise
    except ObjectError as error:
        log.debug("%s: %s", path, error)
        return ()
    finally:
        os.close(fd)


def find_cheap(path: str, offsets: Mapping[int, int]) -> tuple[dict[int, int], tuple[str, ...]]:
    """The same functions with offsets at which a probe is cheap, a few bytes in where that is the same as the begin.

    Also returns those that have none: the kernel must single-step there. Raises OSError.
    """
    if platform.machine() != "x86_64":
        return dict(offsets), ()
    cheap, dear = {}, []
    fd = os.open(path, OPEN_FLAGS)
    try:
        for function, offset in offsets.items():
            within = uprobe.emulated_at(os.pread(fd, uprobe.LONGEST_CHECKED, offset))
            cheap[function] = offset + (within or 0)
            if within is None:
                dear.append(f"nccl{FUNCTIONS[function]}")
    finally:
        os.close(fd)
    return cheap, tuple(dear)
