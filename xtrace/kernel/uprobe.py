"""Attaches programs to functions of files: by multi links (Linux 6.6), else by one perf event per function.

The kernel detaches when the descriptor is closed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from xtrace.errors import XtraceError
from xtrace.kernel import constants, syscall
from xtrace.kernel.bpf import Fd, Program
from xtrace.kernel.features import load_trivial, switched_off
from xtrace.kernel.syscall import call, close, ffi, try_call

PMU = Path("/sys/bus/event_source/devices/uprobe")


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
