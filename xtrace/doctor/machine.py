"""Checks of the kernel and of this process's privileges."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from xtrace.doctor.check import Check, fail, ok, warn
from xtrace.errors import XtraceError
from xtrace.kernel import features, privileges

OLDEST = (5, 10)
MEMLOCK_UNTIL = (5, 11)
"""From this version on, BPF memory is charged to the cgroup."""
JIT = Path("/proc/sys/net/core/bpf_jit_enable")
WITHOUT = {
    "cmpxchg": "before Linux 5.12: flows are in hash maps, which cost more per packet and per interval",
    "btf": "maps and programs have no type information: bpftool shows numbers without names",
    "frags": "frames with fragments (jumbo MTU) are not seen by native XDP (Linux 5.18)",
    "links": "XDP is attached by netlink: kill -9 leaves the program attached",
    "tcx": "at tc a clsact filter is used: kill -9 leaves it until the next run (Linux 6.6)",
    "percpu_batch": "counters are read one by one (Linux 5.13)",
    "ipsec": "packets of policy-based IPsec may count as received and as decrypted",
}
"""What a run does without a feature."""


def kernel() -> Iterator[Check]:
    """Check version and JIT."""
    system = os.uname()
    found = re.match(r"(\d+)\.(\d+)", system.release)
    version = (int(found[1]), int(found[2])) if found else OLDEST
    if version < OLDEST:
        yield fail("kernel", f"Linux {system.release}", "use Linux 5.10 or newer")
    else:
        yield ok("kernel", f"Linux {system.release} {system.machine}")
    try:
        enabled = JIT.read_text().strip()
    except FileNotFoundError:  # the setting is shown in the first network namespace alone
        yield warn("jit", f"not known: no {JIT} in this network namespace", "run it outside")
        return
    except OSError:  # only root may read it
        yield warn("jit", "not known: /proc/sys/net/core/bpf_jit_enable is not readable", "run it as root")
        return
    if enabled == "0":
        yield warn("jit", "off: programs are interpreted, several times slower", "sysctl net.core.bpf_jit_enable=1")
    else:
        yield ok("jit", "on")


def rights(modes: tuple[str, ...]) -> Iterator[Check]:
    """Check capabilities, memlock, and with them the features of the kernel."""
    needs = {"xdp": privileges.XDP_NEEDS, "nccl": privileges.NCCL_NEEDS}
    for mode in modes:
        lacking = privileges.missing(needs.get(mode, ()))
        if lacking:
            cure = "run it with sudo, or grant them (setcap)"
            yield fail("capabilities", f"mode {mode} lacks {', '.join(lacking)}", cure, mode)
        else:
            yield ok("capabilities", f"mode {mode} has what it needs", mode)
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if found and (int(found[1]), int(found[2])) < MEMLOCK_UNTIL and limit != resource.RLIM_INFINITY:
        yield warn("memlock", f"{limit} bytes; before Linux 5.11 it limits BPF memory", "ulimit -l unlimited")
    else:
        yield ok("memlock", "does not limit BPF memory")
    if {"xdp", "nccl"} & set(modes):
        yield from _features()


def _features() -> Iterator[Check]:
    lacking = privileges.missing(privileges.BPF_NEEDS)
    if lacking:
        yield warn("features", f"not known: probing needs {', '.join(lacking)}", "run it with sudo")
        return
    try:
        found = features.probe()
    except XtraceError as error:
        yield fail("features", f"bpf() fails: {error}", "see the cause named there")
        return
    yield ok("features", ", ".join(found.names()))
    for name, present in found._asdict().items():
        if name in WITHOUT and not present:
            yield warn("features", f"no {name}: {WITHOUT[name]}")
