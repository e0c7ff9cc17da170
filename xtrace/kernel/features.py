"""Features of the running kernel: probed, never concluded from its version."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from xtrace.errors import UsageError
from xtrace.kernel import constants, syscall
from xtrace.kernel.syscall import close, ffi, try_call

SWITCH = "XTRACE_FEATURES_OFF"
"""Environment variable for tests: features to treat as absent, comma-separated."""

RETURN_XDP_PASS = bytes.fromhex("b700000002000000 9500000000000000")
"""r0 = XDP_PASS; exit"""

COMPARE_AND_SWAP = bytes.fromhex(
    "b700000000000000 7b0af8ff00000000 b701000001000000 db1af8fff1000000 b700000002000000 9500000000000000"
)
"""r0 = 0; *(u64 *)(r10 - 8) = r0; r1 = 1; lock cmpxchg *(u64 *)(r10 - 8), r1; r0 = XDP_PASS; exit"""
ASK_FOR_SECURITY_PATH = bytes.fromhex(
    "b702000000000000 bfa3000000000000 07030000e0ffffff b70400001c000000 b705000000000000 8500000042000000"
    "b700000000000000 9500000000000000"
)
"""bpf_skb_get_xfrm_state(ctx, 0, r10 - 32, sizeof(struct bpf_xfrm_state), 0); r0 = 0; exit"""


class Features(NamedTuple):
    """One field per feature, with the name that XTRACE_FEATURES_OFF takes."""

    btf: bool
    """Type information of our object is accepted."""
    frags: bool
    """XDP programs may take frames with fragments: BPF_F_XDP_HAS_FRAGS (Linux 5.18)."""
    links: bool
    """XDP is attached by BPF_LINK_CREATE (Linux 5.9); by rtnetlink where this is switched off."""
    tcx: bool
    """tc programs are attached by BPF_LINK_CREATE (Linux 6.6); to the clsact qdisc otherwise."""
    percpu_batch: bool
    """BPF_MAP_LOOKUP_BATCH of per-CPU arrays (Linux 5.13)."""
    cmpxchg: bool
    """BPF programs have compare-and-swap (Linux 5.12, on some machines later): flow tables in shared memory."""
    realtime: bool
    """The kernel is PREEMPT_RT: per-CPU state needs atomic operations."""
    ipsec: bool
    """The kernel says which packets it has decrypted: bpf_skb_get_xfrm_state() (CONFIG_XFRM)."""

    def names(self) -> list[str]:
        """Names of the available features."""
        return [name for name, present in self._asdict().items() if present]


OTHERS = frozenset({"frame_flags", "landlock", "uprobe_multi", "uretprobe"})
"""Features probed by other modules, also accepted by SWITCH."""


def switched_off(feature: str) -> bool:
    """Whether SWITCH names the feature; UsageError if it names one that does not exist."""
    return feature in _off()


def _off() -> frozenset[str]:
    off = frozenset(filter(None, os.environ.get(SWITCH, "").split(",")))
    unknown = off - set(Features._fields) - OTHERS
    if unknown:
        raise UsageError(f"{SWITCH}: unknown feature {', '.join(sorted(unknown))}")
    return off


def probe() -> Features:
    """Probe each feature; needs the capabilities to load programs."""
    off = _off()
    return Features(
        btf="btf" not in off,
        frags="frags" not in off and _takes_frags(),
        links="links" not in off,
        tcx="tcx" not in off and _attaches_tcx(),
        percpu_batch="percpu_batch" not in off and _batches_percpu_arrays(),
        cmpxchg="cmpxchg" not in off and _swaps(),
        realtime="realtime" not in off and _is_realtime(),
        ipsec="ipsec" not in off and _knows_security_paths(),
    )


def load_trivial(prog_type: int, attach_type: int, flags: int, instructions: bytes = RETURN_XDP_PASS) -> int:
    """BPF_PROG_LOAD of a trivial program: its descriptor, or -errno."""
    request = ffi.new("struct xt_prog_load *")
    code, license_text = ffi.from_buffer(instructions), ffi.new("char[]", b"GPL")
    request.insns, request.insn_cnt, request.license = code, len(instructions) // 8, license_text
    request.prog_type, request.expected_attach_type = prog_type, attach_type
    request.prog_flags, request.prog_name = flags, b"probe"
    return try_call(syscall.lib.xt_prog_load, request)


def _takes_frags() -> bool:
    return _close(load_trivial(constants.PROG_TYPE_XDP, constants.ATTACH_TYPE_XDP, constants.PROG_HAS_FRAGS))


def _swaps() -> bool:
    return _close(load_trivial(constants.PROG_TYPE_XDP, constants.ATTACH_TYPE_XDP, 0, COMPARE_AND_SWAP))


def _attaches_tcx() -> bool:
    fd = load_trivial(constants.PROG_TYPE_SCHED_CLS, 0, 0)
    if fd < 0:
        return False
    # no interface has this index: ENODEV if the kernel knows the attach type, EINVAL if not
    result = try_call(syscall.lib.xt_link_create, fd, 0x7FFFFFFF, constants.ATTACH_TYPE_TCX_INGRESS, 0)
    _close(fd)
    return result == -errno.ENODEV


def _knows_security_paths() -> bool:
    return _close(load_trivial(constants.PROG_TYPE_SCHED_CLS, 0, 0, ASK_FOR_SECURITY_PATH))


def _batches_percpu_arrays() -> bool:
    request = ffi.new("struct xt_map_create *")
    request.map_type, request.key_size, request.value_size = constants.MAP_TYPE_PERCPU_ARRAY, 4, 8
    request.max_entries, request.map_name = 1, b"probe_batch"
    fd = try_call(syscall.lib.xt_map_create, request)
    if fd < 0:
        return False
    # with room for no entry a kernel that knows the command returns at once; others return ENOTSUPP
    count = ffi.new("__u32 *", 0)
    result = try_call(syscall.lib.xt_map_lookup_batch, fd, ffi.NULL, ffi.NULL, ffi.NULL, ffi.NULL, count)
    _close(fd)
    return result in (0, -errno.EFAULT)


def _is_realtime() -> bool:
    """The file comes with the RT patches; mainline kernels (6.12) show it only in their version."""
    try:
        return Path("/sys/kernel/realtime").read_text().strip() == "1"
    except OSError:
        return "PREEMPT_RT" in os.uname().version


def _close(fd: int) -> bool:
    if fd >= 0:
        close(fd)
    return fd >= 0
