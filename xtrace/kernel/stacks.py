"""The stacks of another process's threads, read while they sleep; nothing is stopped for it.

Needs ptrace access. A thread may go on at any moment: what is read is then of no use, and the caller looks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xtrace.kernel.paths import procfs


def threads(pid: int) -> dict[int, int]:
    """The threads of a process, with the times they started (kernel ticks since boot); {} if it is gone."""
    directory = procfs() / f"{pid}/task"
    found = {}
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return {}
    for name in names:
        with suppress(OSError):  # this thread is gone
            text = (directory / name / "stat").read_bytes()
            found[int(name)] = int(text.rpartition(b")")[2].split()[19])
    return found


def stack_pointer(pid: int, thread: int) -> int | None:
    """Where the stack of a thread that sleeps ends; None while it runs. Raises OSError if that cannot be read.

    proc_pid_syscall(5): number, arguments, stack pointer, program counter; without arguments outside a system call.
    """
    words = (procfs() / f"{pid}/task/{thread}/syscall").read_text().split()
    return int(words[-2], 16) if len(words) > 2 else None


class Memory:
    """The memory of a process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes, fewer where a mapping ends; b"" where there is none."""
        try:
            return os.pread(self._fd, size, address)
        except (OSError, OverflowError):
            return b""


@contextmanager
def memory_of(pid: int) -> Iterator[Memory]:
    """The memory of a process, for reading. Raises OSError without ptrace access."""
    fd = os.open(Path(procfs(), str(pid), "mem"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Memory(fd)
    finally:
        os.close(fd)
