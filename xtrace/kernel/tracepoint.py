"""Attaches programs to raw tracepoints. The kernel detaches when the descriptor is closed."""

from __future__ import annotations

from xtrace.kernel import syscall
from xtrace.kernel.bpf import Fd, Program, bpf_call
from xtrace.kernel.syscall import ffi


def attach_raw(program: Program, tracepoint: str) -> Fd:
    """BPF_RAW_TRACEPOINT_OPEN: run `program` whenever the kernel passes the tracepoint."""
    name = ffi.new("char[]", tracepoint.encode())
    what = f"BPF_RAW_TRACEPOINT_OPEN({tracepoint})"
    return Fd(bpf_call(what, syscall.lib.xt_raw_tracepoint_open, program.fileno(), name))
