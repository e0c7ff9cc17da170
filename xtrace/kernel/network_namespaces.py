"""Network namespaces: what is read of one, by a thread that enters it for a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EPERM
from pathlib import Path

from xtrace.errors import KernelError
from xtrace.kernel import syscall
from xtrace.kernel.paths import procfs
from xtrace.kernel.proc import pids

NAMED = Path("/run/netns")
"""Where `ip netns` mounts namespaces."""
OWN = Path("/proc/thread-self/ns/net")

SNMP = "/proc/thread-self/net/snmp"
MOST_BYTES = 1 << 16


def inode_of(namespace: Path = OWN) -> int:
    """Return the number by which the kernel tells namespaces apart (ns_common.inum)."""
    return namespace.stat().st_ino


def all_namespaces() -> dict[int, Path]:
    """Return a path of each network namespace that has a name or a process, by inode number: as far as may be read."""
    found: dict[int, Path] = {}
    for path in (*NAMED.glob("*"), *(procfs() / str(pid) / "ns/net" for pid in pids())):
        with suppress(OSError):
            found.setdefault(inode_of(path), path)
    return found


def opened(namespace: Path) -> int:
    """Return a descriptor of a namespace, which keeps it alive until it is closed. Raises KernelError."""
    return _open(namespace)


@contextmanager
def entered(namespace: Path) -> Iterator[None]:
    """Run the block with this thread in another network namespace. Raises KernelError, EPERM without CAP_SYS_ADMIN.

    What is opened there stays there.
    """
    own, other = _open(OWN), -1
    try:
        other = _open(namespace)
        result = syscall.try_call(syscall.lib.xt_setns_net, other)
        if result < 0:
            raise KernelError(f"setns({namespace})", -result, "needs CAP_SYS_ADMIN" if result == -EPERM else "")
        try:
            yield
        finally:
            syscall.call("setns(own network namespace)", syscall.lib.xt_setns_net, own)
    finally:
        for descriptor in (own, other):
            if descriptor >= 0:
                os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(f"open({path})", error.errno or 0) from error


class TcpCounters:
    """RetransSegs of the namespace in which it is created, in which it stays."""

    def __init__(self) -> None:
        self._fd = _open(Path(SNMP))

    def retrans_segs(self) -> int:
        """Return the segments that TCP sent again, of all sockets since the namespace exists. Raises KernelError."""
        try:
            text = os.pread(self._fd, MOST_BYTES, 0)
        except OSError as error:
            raise KernelError("read(/proc/net/snmp)", error.errno or 0) from error
        names, values = (line.split() for line in text.splitlines() if line.startswith(b"Tcp:"))
        return int(values[names.index(b"RetransSegs")])

    def close(self) -> None:
        """Release the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
