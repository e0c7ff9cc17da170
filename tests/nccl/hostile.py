"""hostile.py KIND DIRECTORY NUMBER LIBRARY: a process that makes mode nccl work hard, by means that any user has.

    tables    maps NUMBER files whose headers promise a string table of 250 MB (sparse), and changes them all the time
    mappings  maps a file executable NUMBER times, and maps or unmaps it once more all the time
    copies    maps NUMBER copies of LIBRARY, and calls none of them
    pointers  calls a copy of LIBRARY with NUMBER communicators that do not exist at once, each time others
    answers   asks a copy of LIBRARY for the sizes of NUMBER such communicators at once, each time others

Started as root it becomes nobody, whose DIRECTORY must be. It prints `ready` once all of it is in place, and ends with
its standard input.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
import sys
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534
PAGE = mmap.PAGESIZE
TABLE_SIZE = 250 << 20
EVERY_S = 0.3

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
MACHINES = {"x86_64": 62, "aarch64": 183}

Act = Callable[[], None]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


def promising(size: int) -> bytes:
    """The headers of an ELF file of this size that is all dynamic string table."""
    head = HEADER.size + 3 * SECTION.size
    machine = MACHINES[os.uname().machine]
    header = HEADER.pack(b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 0, HEADER.size, 0, 64, 56, 0, 64, 3, 0)
    symbols = SECTION.pack(0, 11, 0, 0, head, 0, 2, 0, 8, 24)
    strings = SECTION.pack(0, 3, 0, 0, head, size - head, 0, 0, 1, 0)
    return header + SECTION.pack(*[0] * 10) + symbols + strings


def opened(path: Path, size: int, content: bytes = b"") -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, content, 0)
    os.truncate(fd, size)
    return fd


def map_executable(fd: int) -> int:
    """The first page of a file; its address."""
    address = libc.mmap(None, PAGE, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


def toggle(fd: int, held: list[int]) -> None:
    """Map or unmap a page: the address space changes its size each time."""
    if held:
        libc.munmap(ctypes.c_void_p(held.pop()), PAGE)
    else:
        held.append(map_executable(fd))


def tables(directory: Path, number: int, library: bytes) -> Act:
    files = [opened(directory / f"table{i}", TABLE_SIZE, promising(TABLE_SIZE)) for i in range(number)]
    for fd in files:
        map_executable(fd)
    held: list[int] = []

    def change() -> None:
        for fd in files:
            os.fchmod(fd, 0o600)  # another time of change: what was known of the file does not hold
        toggle(files[0], held)

    return change


def mappings(directory: Path, number: int, library: bytes) -> Act:
    fd = opened(directory / "mapped", PAGE)
    for _ in range(number):
        map_executable(fd)
    held: list[int] = []
    return lambda: toggle(fd, held)


def copies(directory: Path, number: int, library: bytes) -> Act:
    for i in range(number):
        copy = directory / f"libnccl.so.{i}"
        copy.write_bytes(library)
        ctypes.CDLL(str(copy))
    return lambda: None


def pointers(directory: Path, number: int, library: bytes) -> Act:
    copy = directory / "libnccl.so.2"
    copy.write_bytes(library)
    reduce = ctypes.CDLL(str(copy)).ncclAllReduce
    reduce.argtypes = (*[ctypes.c_void_p] * 2, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 2)
    addresses = iter(range(1 << 20, 1 << 60, 64))

    def call() -> None:
        for _ in range(number):
            reduce(None, None, 1, 7, 0, next(addresses), None)

    return call


def answers(directory: Path, number: int, library: bytes) -> Act:
    copy = directory / "libnccl.so.2"
    copy.write_bytes(library)
    count = ctypes.CDLL(str(copy)).ncclCommCount
    # the stand-in reads what the address leads to: its communicators begin with their size
    memory = ctypes.create_string_buffer(64 * number)
    answer = ctypes.c_int()
    shift = iter(range(1 << 60))

    def ask() -> None:
        first = ctypes.addressof(memory) + next(shift) % 16
        for i in range(number):
            count(ctypes.c_void_p(first + 32 * i), ctypes.byref(answer))

    return ask


KINDS = {"tables": tables, "mappings": mappings, "copies": copies, "pointers": pointers, "answers": answers}


def main() -> None:
    """Until the end of standard input."""
    kind, directory, number, library = sys.argv[1:]
    content = Path(library).read_bytes()
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    again = KINDS[kind](Path(directory), int(number), content)
    print("ready", flush=True)
    while not select.select([0], [], [], EVERY_S)[0]:
        again()


if __name__ == "__main__":
    main()
