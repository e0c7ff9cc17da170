"""The sockets that processes have open, as copies of their descriptors (pidfd_getfd, Linux 5.6).

Works in any network namespace. Needs ptrace access to the process.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from xtrace.errors import KernelError
from xtrace.kernel import abi, syscall
from xtrace.kernel.bpf import Fd
from xtrace.kernel.paths import procfs

SO_COOKIE = 57
RAW = (Path("/proc/thread-self/net/raw"), Path("/proc/thread-self/net/raw6"))
INODE_COLUMN = 9
INTERNET = frozenset({int(socket.AF_INET), int(socket.AF_INET6)})


class Unreadable(Exception):
    """A process may not be looked into."""


def socket_descriptors(pid: int) -> dict[int, int]:
    """Return a process's descriptors that are sockets of any kind, with their inode numbers. Raises Unreadable."""
    directory = procfs() / str(pid) / "fd"
    try:
        links = {name: _target(f"{directory}/{name}") for name in os.listdir(directory)}  # noqa: PTH208
    except PermissionError as error:
        if not directory.parent.exists():
            return {}  # of a process that is gone, links are refused so, too
        raise Unreadable from error
    except OSError:
        return {}
    found = ((name, _SOCKET.fullmatch(target)) for name, target in links.items())
    return {int(name): int(link.group(1)) for name, link in found if link}


_SOCKET = re.compile(r"socket:\[(\d+)\]")


def _target(descriptor: str) -> str:
    try:
        return os.readlink(descriptor)  # noqa: PTH115 - of every process
    except FileNotFoundError:
        return ""


def raw_sockets() -> frozenset[int]:
    """Return the inode numbers of the raw sockets of this network namespace, but for the kernel's own."""
    lines = [line.split() for path in RAW if path.exists() for line in path.read_text().splitlines()[1:]]
    return frozenset(int(words[INODE_COLUMN]) for words in lines)


def internet_sockets(pid: int, descriptors: Iterable[int]) -> Iterator[Fd]:
    """Yield copies of those of the descriptors that are internet sockets, each closed afterwards. Raises Unreadable."""
    opened = syscall.try_call(syscall.lib.xt_pidfd_open, pid)
    if opened < 0:
        return
    with Fd(opened) as process:
        for number in descriptors:
            copied = syscall.try_call(syscall.lib.xt_pidfd_getfd, process.fileno(), number)
            if copied == -errno.EPERM:
                raise Unreadable
            if copied >= 0:
                with Fd(copied) as copy:
                    if _domain(copy) in INTERNET:
                        yield copy


def cookie_of(descriptor: Fd) -> int:
    """Return the number by which the kernel tells sockets apart. Raises KernelError."""
    (cookie,) = abi.U64.unpack(_option(descriptor, SO_COOKIE, abi.U64.size))
    return int(cookie)


def _domain(descriptor: Fd) -> int:
    (domain,) = abi.U32.unpack(_option(descriptor, socket.SO_DOMAIN, abi.U32.size))
    return int(domain)


def _option(descriptor: Fd, option: int, size: int) -> bytes:
    borrowed = socket.socket(fileno=descriptor.fileno())
    try:
        return borrowed.getsockopt(socket.SOL_SOCKET, option, size)
    except OSError as error:
        raise KernelError(f"getsockopt({option})", error.errno or 0) from error
    finally:
        borrowed.detach()


def command_of(pid: int) -> bytes:
    """Return a process's name, as the kernel has it; empty if it is gone."""
    with suppress(OSError):
        return (procfs() / str(pid) / "comm").read_bytes().removesuffix(b"\n")
    return b""
