"""Where the running kernel says of an XDP frame whether it has fragments, by its own type information (BTF).

bpf_cast_to_kern_ctx() (Linux 6.2) gives XDP programs the kernel's struct xdp_buff instead of its shadow struct xdp_md.
It is no call: the verifier makes it one instruction.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import NamedTuple

from xtrace.kernel import constants, features
from xtrace.kernel.syscall import close, ffi, lib

__all__ = ["FrameFlags", "frame_flags"]

TYPES = Path("/sys/kernel/btf/vmlinux")
FEATURE = "frame_flags"
INSTRUCTION = struct.Struct("<BBhi")
"""Opcode, registers, offset, immediate (struct bpf_insn)."""
CAST = "bpf_cast_to_kern_ctx"


class FrameFlags(NamedTuple):
    """`offset` of the flags in struct xdp_buff, in bytes; the flag; the `functions` that a program calls for them."""

    offset: int
    frags: int
    functions: dict[str, int]


@lru_cache
def frame_flags() -> FrameFlags | None:
    """Find the flags and try to read them; None where the kernel does not show them, or lets no program of ours look.

    Loads a program, so it needs the capabilities for that.
    """
    if features.switched_off(FEATURE):
        return None
    types = _types()
    if types.find(CAST.encode()) < 0:
        return None
    blob = ffi.from_buffer(types)
    function = lib.xt_btf_type(blob, len(types), lib.XT_BTF_FUNCTION, CAST.encode())
    offset = lib.xt_btf_member(blob, len(types), b"xdp_buff", b"flags")
    frags = lib.xt_btf_constant(blob, len(types), b"xdp_buff_flags", b"XDP_FLAGS_HAS_FRAGS")
    if not function or offset <= 0 or frags <= 0:
        return None
    found = FrameFlags(offset, frags, {CAST: function})
    return found if _lets_read(found) else None


def _types() -> mmap | bytes:
    """The kernel's type information: mapped where the kernel allows that (Linux 6.16), which spares a copy of 5 MB."""
    try:
        with TYPES.open("rb") as file:
            try:
                return mmap(file.fileno(), 0, prot=PROT_READ)
            except (OSError, ValueError):
                return file.read()
    except OSError:
        return b""


def _lets_read(flags: FrameFlags) -> bool:
    """Whether a program may: bpf_cast_to_kern_ctx(ctx); r1 = *(u32 *)(r0 + offset); r0 = XDP_PASS; exit."""
    code = INSTRUCTION.pack(0x85, 0x20, 0, flags.functions[CAST]) + INSTRUCTION.pack(0x61, 0x01, flags.offset, 0)
    code += features.RETURN_XDP_PASS
    fd = features.load_trivial(constants.PROG_TYPE_XDP, constants.ATTACH_TYPE_XDP, constants.PROG_HAS_FRAGS, code)
    if fd >= 0:
        close(fd)
    return fd >= 0
