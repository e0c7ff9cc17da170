"""TCX links by plain bpf(), because bpftool shows them only since 7.3.

`python -m tests.netns.tcx show IF` prints the ids of the programs at tc; `... attach IF DIRECTION VERDICT` attaches
one of its own, which ends the chain with that verdict or goes on (-1), behind all others, or with
a last argument `first` before them, until stdin closes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import struct
import sys
from pathlib import Path

from tests.support.build import compile_bpf
from xtrace.kernel import constants, features
from xtrace.kernel.bpf import Link, Map, Program
from xtrace.kernel.elf import patch_constants

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
BPF_PROG_QUERY = 16
ATTACH_TYPES = {"ingress": constants.ATTACH_TYPE_TCX_INGRESS, "egress": constants.ATTACH_TYPE_TCX_EGRESS}
MOST = 64


def attached(interface: str, direction: str) -> list[int]:
    """Ids of the programs, in the order they run."""
    ids = (ctypes.c_uint32 * MOST)()
    query = struct.pack("=IIIIQI", socket.if_nametoindex(interface), ATTACH_TYPES[direction], 0, 0, 0, MOST)
    request = ctypes.create_string_buffer(query, 64)
    struct.pack_into("=Q", request, 16, ctypes.addressof(ids))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SYS_BPF, BPF_PROG_QUERY, request, len(request)) < 0:
        if ctypes.get_errno() == errno.EINVAL and not features.probe().tcx:
            return []
        raise OSError(ctypes.get_errno(), f"BPF_PROG_QUERY: {os.strerror(ctypes.get_errno())}")
    (count,) = struct.unpack_from("=I", request, 24)
    return list(ids[:count])


def hold(interface: str, direction: str, verdict: int, flags: int = 0) -> None:
    """Attach, and stay until stdin closes."""
    spec = compile_bpf(Path(__file__).parent / "other_tc_program.c")
    with (
        Map.create(patch_constants(spec.maps["rodata"], {"verdict": verdict & 0xFFFFFFFF})) as rodata,
        Program.prepare(
            spec.programs["other_tc_program"],
            {"rodata": rodata},
            licence=spec.license,
            prog_type=constants.PROG_TYPE_SCHED_CLS,
            attach_type=0,
        )() as program,
        Link.attach(program, socket.if_nametoindex(interface), ATTACH_TYPES[direction], flags),
    ):
        print("attached", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    command, interface, *rest = sys.argv[1:]
    if command == "show":
        print(json.dumps({direction: attached(interface, direction) for direction in ATTACH_TYPES}))
    else:
        hold(interface, rest[0], int(rest[1]), constants.LINK_BEFORE_ALL if "first" in rest else 0)
