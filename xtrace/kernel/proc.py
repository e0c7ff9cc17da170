"""Processes as /proc shows them: which files they execute, what they are called, whose they are.

Whatever a process did a moment ago, it may be gone now: every function says so by None or nothing.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from xtrace.kernel.paths import procfs
from xtrace.printable import printable

LONGEST_COMMAND = 256
MOST_BYTES = 1 << 16
"""Read of a file: all of it, but for command lines that are shortened anyway."""
_CONTAINER = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file that a process executes."""

    device: str
    """major:minor in hexadecimal, as /proc/PID/maps has it"""
    inode: int
    path: str
    """in the process's mount namespace"""
    range: str
    """of addresses, the name of its link in /proc/PID/map_files"""


@lru_cache(maxsize=1)
def _proc() -> str:
    return str(procfs())


def pids() -> Iterator[int]:
    """All processes there are now."""
    for name in os.listdir(_proc()):  # noqa: PTH208 - a thousand names, each second
        if name.isdigit():
            yield int(name)


def mapped_size(pid: int) -> int | None:
    """Pages of address space: 0 for kernel threads. It changes when a library is mapped."""
    text = _read(f"{_proc()}/{pid}/statm")
    return int(text.split(None, 1)[0]) if text else None


def start_time(pid: int) -> int | None:
    """Kernel ticks since boot at which it started: tells it from an earlier process of the same number."""
    text = _read(f"{_proc()}/{pid}/stat")
    # the name, in parentheses, may hold anything
    return int(text.rpartition(b")")[2].split()[19]) if text else None


def executed_files(pid: int) -> list[MappedFile]:
    """The files that it has mapped executable. Raises PermissionError where this process may not know."""
    try:
        with Path(f"{_proc()}/{pid}/maps").open("rb") as lines:
            found = [line.split(None, 5) for line in lines if b"x" in line.split(None, 2)[1]]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise
        return []
    files = [fields for fields in found if len(fields) == 6 and fields[5].startswith(b"/")]
    return [
        MappedFile(device.decode(), int(inode), os.fsdecode(path.rstrip(b"\n")), addresses.decode())
        for addresses, _, _, device, inode, path in files
    ]


def reach(pid: int, file: MappedFile) -> int | None:
    """A descriptor of the very file, whatever mount namespace it is in, to be closed; None if there is none.

    It is opened by O_PATH: neither read nor, where it is a device, touched. By the path as the process knows it,
    unless another file stands there for that process: then by the link in map_files, which always is the mapped
    file but takes CAP_SYS_ADMIN.
    """
    named = _open(f"{_proc()}/{pid}/root{file.path}", os.O_NOFOLLOW)
    if named is not None and _is_mapped(named, file):
        return named
    mapped = _open(f"{_proc()}/{pid}/map_files/{file.range}")
    if mapped is None:
        # overlayfs and btrfs may give one file two numbers: then it is found by name, too
        return named
    if named is not None:
        os.close(named)
    return mapped


def _open(path: str, flags: int = 0) -> int | None:
    """A descriptor that cannot be read; None where nothing stands there."""
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC | flags)
    except OSError:
        return None


def _is_mapped(fd: int, file: MappedFile) -> bool:
    """Whether a file has the numbers that the mapping has."""
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    return (device, status.st_ino) == (file.device, file.inode)


def own_name(name: bytes) -> str:
    """A name that a process gave itself: what is no UTF-8, or a terminal would act upon, becomes `?`."""
    return printable(name.decode(errors="replace").replace("\ufffd", "?"))


def command(pid: int) -> str:
    """The command line, shortened; the name in brackets where it has none; empty if the process is gone."""
    words = _read(f"{_proc()}/{pid}/cmdline")
    if words is None:
        return ""
    if not words.strip(b"\0"):
        return f"[{own_name((_read(f'{_proc()}/{pid}/comm') or b'').strip())}]"
    text = own_name(words.rstrip(b"\0").replace(b"\0", b" "))
    return text if len(text) <= LONGEST_COMMAND else text[: LONGEST_COMMAND - 3] + "..."


def container(pid: int, proc: str = "") -> str | None:
    """The id of its container, by its control group: 64 hexadecimal digits; None outside of any.

    Docker, containerd, CRI-O and podman put it into the path of the group, each with another prefix.
    """
    found = _CONTAINER.findall(_read(f"{proc or _proc()}/{pid}/cgroup") or b"")
    return found[-1].decode() if found else None


class Owner(NamedTuple):
    """Whose a thread is."""

    pid: int
    command: str
    """its name, without path and arguments"""
    container: str | None


def owner_of(thread: int, proc: str = "/proc") -> Owner | None:
    """The process of a thread, by its number in this process's pid namespace; None if it is gone.

    `proc` is that of this namespace: where a container has the machine's at /host/proc, or XTRACE_PROCFS names one,
    the numbers there are other processes'.
    """
    # there for every thread, also for those that /proc does not list
    found = re.search(rb"^Tgid:\s*(\d+)$", _read(f"{proc}/{thread}/status") or b"", re.MULTILINE)
    if found is None:
        return None
    pid = int(found.group(1))
    return Owner(pid, own_name((_read(f"{proc}/{pid}/comm") or b"").strip()), container(pid, proc))


def sees_all() -> bool:
    """Whether the process ids in proc are those that BPF programs see, the machine's.

    They are in the first pid namespace (PROC_PID_INIT_INO, linux/proc_fs.h), and in a proc of an outer namespace,
    which calls this process by another number than it does itself.
    """
    if Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC:
        return True
    return _proc() != "/proc" and str(Path(_proc(), "self").readlink()) != str(os.getpid())


def numbers_as_own() -> bool:
    """Whether the process ids in proc are those of this process's pid namespace, in which netlink answers."""
    # from the namespace of the mounted proc inwards: one number where that is the innermost
    found = re.search(rb"^NSpid:((?:\s+\d+)+)$", _read(f"{_proc()}/self/status") or b"", re.MULTILINE)
    return found is not None and len(found.group(1).split()) == 1


def _read(path: str) -> bytes | None:
    """A small file of proc; None if it is gone. Read for each process, each second: without a file object."""
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
