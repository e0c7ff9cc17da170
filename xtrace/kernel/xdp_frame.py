"""Where the running kernel says of an XDP frame whether it has fragments, by its own type information (BTF).

bpf_cast_to_kern_ctx() (Linux 6.2) gives XDP programs the kernel's struct xdp_buff instead of its shadow struct xdp_md.
It is no call: the verifier makes it one instruction.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from xtrace.errors import ObjectError
from xtrace.kernel import constants, features, kernel_types
from xtrace.kernel.btf import Btf, Kind
from xtrace.kernel.syscall import close

__all__ = ["FrameFlags", "frame_flags"]

FEATURE = "frame_flags"
INSTRUCTION = struct.Struct("<BBhi")
"""Opcode, registers, offset, immediate (struct bpf_insn)."""
CAST, FRAME, FLAGS, HAS_FRAGS = "bpf_cast_to_kern_ctx", "xdp_buff", "xdp_buff_flags", "XDP_FLAGS_HAS_FRAGS"
"""A function, a struct, an enum and a constant of it."""


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
    try:
        found = _find(kernel_types.load())
    except (OSError, ObjectError):
        return None
    return found if found and _lets_read(found) else None


def _find(types: Btf) -> FrameFlags | None:
    function, frame, flags = types.find(Kind.FUNC, CAST), types.find(Kind.STRUCT, FRAME), types.find(Kind.ENUM, FLAGS)
    if function is None or frame is None or flags is None:
        return None
    place, frags = types.place(frame, "flags"), types.constants(flags).get(HAS_FRAGS)
    return FrameFlags(place.offset, frags, {CAST: function}) if place and frags else None


def _lets_read(flags: FrameFlags) -> bool:
    """Whether a program may: bpf_cast_to_kern_ctx(ctx); r1 = *(u32 *)(r0 + offset); r0 = XDP_PASS; exit."""
    code = INSTRUCTION.pack(0x85, 0x20, 0, flags.functions[CAST]) + INSTRUCTION.pack(0x61, 0x01, flags.offset, 0)
    code += features.RETURN_XDP_PASS
    fd = features.load_trivial(constants.PROG_TYPE_XDP, constants.ATTACH_TYPE_XDP, constants.PROG_HAS_FRAGS, code)
    if fd >= 0:
        close(fd)
    return fd >= 0
