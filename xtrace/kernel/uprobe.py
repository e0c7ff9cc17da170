"""Attaches programs to functions of files: by multi links (Linux 6.6), else by one perf event per function.

The kernel detaches when the descriptor is closed.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

from xtrace.errors import XtraceError
from xtrace.kernel import constants, syscall
from xtrace.kernel.bpf import Fd, Program
from xtrace.kernel.features import load_trivial, switched_off
from xtrace.kernel.syscall import call, close, ffi, lib, try_call

log = logging.getLogger(__name__)

PMU = Path("/sys/bus/event_source/devices/uprobe")


LONGEST_CHECKED = 20
"""Bytes of a function that are enough for emulated_at()."""

_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_MOVABS_RAX = b"\x48\xb8"
_MOVABS_SIZE = 10


def emulated_at(code: bytes) -> int | None:
    """Where a function may be probed without single steps: bytes after its begin. None: nowhere.

    `code`: its first LONGEST_CHECKED bytes. Skipped is what changes neither stack nor arguments, so that a probe after
    it sees what one at the begin would: endbr64, and a constant that goes to the register of results.
    """
    at = 0
    while True:
        if is_emulated(code[at : at + 2]):
            return at
        if code.startswith(_ENDBR64, at):
            at += len(_ENDBR64)
        elif code.startswith(_MOVABS_RAX, at):
            at += _MOVABS_SIZE
        else:
            return None


def is_emulated(code: bytes) -> bool:
    """Whether x86-64's kernel emulates the instruction that begins with these two bytes.

    It single-steps all others, which makes a probe there about ten times as dear (arch/x86/kernel/uprobes.c: push, nop,
    relative jumps and calls).
    """
    if len(code) < 2:
        return False
    first, second = code[0], code[1]
    if first in (0x41, 0x66):  # push of r8 to r15; a nop with a prefix
        return 0x50 <= second <= 0x57 if first == 0x41 else second == 0x90
    return (
        0x50 <= first <= 0x57
        or 0x70 <= first <= 0x7F
        or first in (0x90, 0xE8, 0xE9, 0xEB)
        or (first == 0x0F and (0x80 <= second <= 0x8F or second == 0x1F))
    )


def attach_multi(program: Program, path: str, offsets: Sequence[int], cookies: Sequence[int], *, at_return: bool) -> Fd:
    """BPF_LINK_CREATE: attach `program` at several offsets of a file, for every process that uses it."""
    request = ffi.new("struct xt_uprobes *")
    alive = [ffi.new("char[]", os.fsencode(path)), ffi.new("__u64[]", offsets), ffi.new("__u64[]", cookies)]
    request.path, request.offsets, request.cookies = alive
    request.count = len(offsets)
    request.flags = constants.UPROBE_MULTI_RETURN if at_return else 0
    return Fd(
        call(f"BPF_LINK_CREATE({program.name}, {path})", syscall.lib.xt_link_create_uprobes, program.fileno(), request)
    )


def attach_event(program: Program, path: str, offset: int, *, at_return: bool) -> Fd:
    """perf_event_open and PERF_EVENT_IOC_SET_BPF: attach `program` at one offset of a file, for every process."""
    name = ffi.new("char[]", os.fsencode(path))
    what = f"perf_event_open(uprobe, {path})"
    event = Fd(
        call(what, syscall.lib.xt_perf_event_open_uprobe, pmu_type(), return_flag() if at_return else 0, name, offset)
    )
    try:
        what = f"PERF_EVENT_IOC_SET_BPF({program.name})"
        call(what, syscall.lib.xt_perf_event_set_bpf, event.fileno(), program.fileno())
    except BaseException:
        event.close()
        raise
    return event


@lru_cache(maxsize=1)
def pmu_type() -> int:
    """The type number of the uprobe PMU. Raises XtraceError if the kernel has none."""
    try:
        return int((PMU / "type").read_text())
    except OSError as error:
        raise XtraceError(f"{PMU}/type: {error.strerror}: this kernel has no uprobes (CONFIG_UPROBE_EVENTS)") from error


@lru_cache(maxsize=1)
def return_flag() -> int:
    """The config bit of a return probe (`config:0` in the PMU's format)."""
    return 1 << int((PMU / "format/retprobe").read_text().strip().partition(":")[2])


@lru_cache(maxsize=1)
def has_returns() -> bool:
    """Whether return probes leave processes alone that a seccomp filter confines; tried in a child of this one.

    On x86-64 they became a system call in Linux 6.11, which filters refused, so that processes were killed; later
    kernels let it pass ("seccomp: passthrough uretprobe systemcall without filtering").
    """
    if switched_off("uretprobe"):
        return False
    try:
        with _probed_return(syscall.lib.xt_filtered_call_address()):
            status = syscall.lib.xt_filtered_child()
    except XtraceError as error:  # what cannot be probed here cannot be tried
        log.debug("return probes: not tried in a confined process: %s", error)
        return True
    log.debug("return probes: a confined process ended with status %d", status)
    return bool(status <= 0 or status == lib.XT_NO_FILTER)


def _probed_return(address: int) -> ExitStack:
    """A program that does nothing where one of this process's functions returns. Raises XtraceError."""
    multi = has_multi()
    with ExitStack() as opened:
        fd = load_trivial(constants.PROG_TYPE_KPROBE, constants.ATTACH_TYPE_UPROBE_MULTI if multi else 0, 0)
        if fd < 0:
            raise XtraceError(f"BPF_PROG_LOAD(nothing): {os.strerror(-fd)}")
        program = opened.enter_context(Program(fd, "nothing"))
        path, offset = _own_place(address)
        if multi:
            opened.enter_context(attach_multi(program, path, [offset], [0], at_return=True))
        else:
            opened.enter_context(attach_event(program, path, offset, at_return=True))
        return opened.pop_all()


def _own_place(address: int) -> tuple[str, int]:
    """The file in which an address of this process is, and the offset there. Raises XtraceError."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, offset, _, _, *path = line.split(None, 5)
        start, end = (int(bound, 16) for bound in addresses.split("-"))
        if start <= address < end and path:
            return path[0], address - start + int(offset, 16)
    raise XtraceError(f"{address:#x}: in no file that this process has mapped")


@lru_cache(maxsize=1)
def has_multi() -> bool:
    """Whether the kernel has multi links with cookies: found by trying one on a path that cannot be probed."""
    if switched_off("uprobe_multi"):
        return False
    fd = load_trivial(constants.PROG_TYPE_KPROBE, constants.ATTACH_TYPE_UPROBE_MULTI, 0)
    if fd < 0:
        return False
    request = ffi.new("struct xt_uprobes *")
    path, place = ffi.new("char[]", b"/"), ffi.new("__u64[]", [0])
    request.path, request.offsets, request.cookies, request.count = path, place, place, 1
    # a kernel with the attach type rejects / as not a regular file (EBADF); others return EINVAL
    result = try_call(syscall.lib.xt_link_create_uprobes, fd, request)
    close(fd)
    return result == -errno.EBADF
