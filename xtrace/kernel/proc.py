"""Processes in /proc: executable mappings, command line, container.

A process may exit at any moment: every function then returns None or an empty result.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from io import RawIOBase
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xtrace.errors import XtraceError
from xtrace.kernel.cgroup_paths import Place, place_in
from xtrace.kernel.paths import procfs
from xtrace.printable import own_name

LONGEST_COMMAND = 256
MOST_BYTES = 1 << 16
"""The most read of one file: enough for all but command lines, which are shortened anyway."""
MAPS_PIECE = 1 << 16
MOST_MAPS_BYTES = 32 << 20
"""Read of one /proc/PID/maps: 300,000 mappings with paths of usual length."""
MOST_MAPPINGS = 300_000
"""Lines of it that are read to find one file again."""
_EXECUTABLE = re.compile(rb"^([0-9a-f]+-[0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(/.*)$", re.MULTILINE)


class TooManyMappings(XtraceError):
    """A process has more mappings than are read."""


class MappedFile(NamedTuple):
    """A file that a process has mapped executable."""

    device: str
    """major:minor in hexadecimal, as /proc/PID/maps has it"""
    inode: int
    path: str
    """in the process's mount namespace"""
    range: str
    """address range: the name of the link in /proc/PID/map_files"""


@lru_cache(maxsize=1)
def _proc() -> str:
    return str(procfs())


def pids() -> Iterator[int]:
    """The ids of all current processes."""
    for name in os.listdir(_proc()):  # noqa: PTH208 - a thousand names, each second
        if name.isdigit():
            yield int(name)


def mapped_size(pid: int) -> int | None:
    """Size of the address space in pages, 0 for kernel threads. It changes when a library is mapped."""
    text = _read(f"{_proc()}/{pid}/statm")
    return int(text.split(None, 1)[0]) if text else None


def start_time(pid: int) -> int | None:
    """Start time in kernel ticks since boot: distinguishes processes that reuse a pid."""
    text = _read(f"{_proc()}/{pid}/stat")
    # the name, in parentheses, may hold anything
    return int(text.rpartition(b")")[2].split()[19]) if text else None


def parent(pid: int) -> int | None:
    """The process that started it, or adopted it."""
    text = _read(f"{_proc()}/{pid}/stat")
    return int(text.rpartition(b")")[2].split()[1]) if text else None


def real_uid(pid: int) -> int | None:
    """The real user id. The owner of /proc/PID is not that: it is root for a process that may not be dumped."""
    found = re.search(rb"^Uid:\t(\d+)", _read(f"{_proc()}/{pid}/status") or b"", re.MULTILINE)
    return int(found.group(1)) if found else None


def executed_files(pid: int) -> Iterator[list[MappedFile]]:
    """The files that a process has mapped executable, in the order of /proc/PID/maps, some at a time.

    A list, possibly empty, for every MAPS_PIECE bytes of it; the generator may be abandoned after any of them. Raises
    PermissionError if ptrace access is denied, and TooManyMappings after MOST_MAPS_BYTES.
    """
    try:
        with Path(f"{_proc()}/{pid}/maps").open("rb", buffering=0) as maps:
            yield from _mapped_files(maps)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise


def _mapped_files(maps: RawIOBase) -> Iterator[list[MappedFile]]:
    left, rest = MOST_MAPS_BYTES, b""
    while True:
        pieces, size = [rest], 0
        while size < MAPS_PIECE and (piece := maps.read(MAPS_PIECE)):
            pieces.append(piece)
            size += len(piece)
        if not size:
            return
        lines, _, rest = b"".join(pieces).rpartition(b"\n")
        once = {(device, inode, path): addresses for addresses, device, inode, path in _EXECUTABLE.findall(lines)}
        yield [
            MappedFile(device.decode(), int(inode), os.fsdecode(path), addresses.decode())
            for (device, inode, path), addresses in once.items()
        ]
        left -= size
        if left <= 0:
            raise TooManyMappings(f"more than {MOST_MAPS_BYTES >> 20} MB of mappings")


class Executable(NamedTuple):
    """A part of a file that a process has mapped executable."""

    start: int
    end: int
    offset: int
    """of `start` in the file"""


def executable_parts(pid: int, file: MappedFile) -> list[Executable]:
    """Where a process has mapped a file executable; [] if it must not be read, or has too many mappings."""
    kept = f" {file.device} {file.inode} ".encode(), os.fsencode(file.path)
    found = []
    try:
        with Path(f"{_proc()}/{pid}/maps").open("rb") as maps:
            for line in islice(maps, MOST_MAPPINGS):
                if kept[0] in line and line.rstrip().endswith(kept[1]) and b"x" in line.split(None, 2)[1]:
                    addresses, _, offset, _ = line.split(None, 3)
                    start, end = (int(address, 16) for address in addresses.split(b"-"))
                    found.append(Executable(start, end, int(offset, 16)))
    except OSError:
        return []
    return found


def reach(pid: int, file: MappedFile) -> int | None:
    """A descriptor of the mapped file, in any mount namespace; the caller closes it. None if it cannot be reached.

    Opened with O_PATH, so nothing is read and no device is touched. The process's own path is tried first; if
    another file is there now, the link in map_files, which always leads to the mapped file but needs CAP_SYS_ADMIN.
    """
    named = _open(f"{_proc()}/{pid}/root{file.path}", os.O_NOFOLLOW)
    if named is not None and _is_mapped(named, file):
        return named
    mapped = _open(f"{_proc()}/{pid}/map_files/{file.range}")
    if mapped is None:
        # overlayfs and btrfs may report two device or inode numbers for one file: then the path is used
        return named
    if named is not None:
        os.close(named)
    return mapped


def _open(path: str, flags: int = 0) -> int | None:
    """An O_PATH descriptor; None if the path cannot be opened."""
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC | flags)
    except OSError:
        return None


def _is_mapped(fd: int, file: MappedFile) -> bool:
    """Whether device and inode are those of the mapping."""
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    return (device, status.st_ino) == (file.device, file.inode)


def command(pid: int) -> str:
    """The shortened command line; the name in brackets if it is empty; "" if the process is gone."""
    words = _read(f"{_proc()}/{pid}/cmdline")
    if words is None:
        return ""
    if not words.strip(b"\0"):
        return f"[{own_name((_read(f'{_proc()}/{pid}/comm') or b'').strip())}]"
    text = own_name(words.rstrip(b"\0").replace(b"\0", b" "))
    return text if len(text) <= LONGEST_COMMAND else text[: LONGEST_COMMAND - 3] + "..."


def place(pid: int, proc: str = "") -> Place:
    """Return what the paths of its control groups tell; NOWHERE if the process is gone, or in no container and pod."""
    return place_in(_read(f"{proc or _proc()}/{pid}/cgroup") or b"")


def environment(pid: int) -> dict[str, str]:
    """The variables that the process was started with, as far as MOST_BYTES of them go; {} if they cannot be read."""
    words = (_read(f"{_proc()}/{pid}/environ") or b"").split(b"\0")
    pairs = (word.partition(b"=") for word in words)
    return {own_name(name): own_name(value) for name, separator, value in pairs if separator}


def thread_state(pid: int, thread: int) -> str | None:
    """R, S, D, T and so on (proc_pid_stat(5)); None if the thread is gone."""
    text = _read(f"{_proc()}/{pid}/task/{thread}/stat")
    return text.rpartition(b")")[2].split()[0].decode() if text else None


def thread_start(pid: int, thread: int) -> int | None:
    """Start time in kernel ticks since boot: distinguishes threads that reuse a number. None if the thread is gone."""
    text = _read(f"{_proc()}/{pid}/task/{thread}/stat")
    return int(text.rpartition(b")")[2].split()[19]) if text else None


def thread_sleeps_in(pid: int, thread: int) -> str | None:
    """The kernel's function in which a thread sleeps: `futex_wait_queue`; None if it runs, or nothing tells."""
    text = (_read(f"{_proc()}/{pid}/task/{thread}/wchan") or b"").strip().decode("ascii", "replace")
    return text.partition(".")[0] if text not in ("", "0") else None


def exit_of(pid: int) -> str | None:
    """`killed by signal 9`, `exit status 1`; None unless its parent has not waited for it yet."""
    text = _read(f"{_proc()}/{pid}/stat")
    fields = text.rpartition(b")")[2].split() if text else []
    if not fields or fields[0] not in (b"Z", b"X"):
        return None
    status = int(fields[-1])  # as wait(2) gives it
    return f"killed by signal {status & 0x7F}" if status & 0x7F else f"exit status {status >> 8}"


class Owner(NamedTuple):
    """The process of a thread."""

    pid: int
    command: str
    """its name, without path and arguments"""
    container: str | None


def owner_of(thread: int, proc: str = "/proc") -> Owner | None:
    """The process of a thread id in this pid namespace; None if it is gone.

    `proc` must belong to this namespace: in the host's proc (/host/proc in a container, XTRACE_PROCFS), the same
    number is a different process.
    """
    # exists for every thread, although /proc lists processes only
    found = re.search(rb"^Tgid:\s*(\d+)$", _read(f"{proc}/{thread}/status") or b"", re.MULTILINE)
    if found is None:
        return None
    pid = int(found.group(1))
    return Owner(pid, own_name((_read(f"{proc}/{pid}/comm") or b"").strip()), place(pid, proc).container)


def sees_all() -> bool:
    """Whether the pids in proc are those of the initial pid namespace, which BPF programs report.

    True in the initial namespace (PROC_PID_INIT_INO, linux/proc_fs.h), and with the proc of an outer namespace, where
    this process has a different pid than in its own.
    """
    if Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC:
        return True
    return _proc() != "/proc" and str(Path(_proc(), "self").readlink()) != str(os.getpid())


def numbers_as_own() -> bool:
    """Whether the pids in proc are those of this process's pid namespace, which netlink reports."""
    # one number per namespace, from that of the mounted proc inwards: a single one if it is the innermost
    found = re.search(rb"^NSpid:((?:\s+\d+)+)$", _read(f"{_proc()}/self/status") or b"", re.MULTILINE)
    return found is not None and len(found.group(1).split()) == 1


def _read(path: str) -> bytes | None:
    """The content of a small proc file; None if it is gone. Without a file object: read per process and second."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, MOST_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
