"""Privileges of this process, and the reasons for EPERM."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from xtrace.errors import KernelError, PrivilegeError
from xtrace.kernel.paths import sysfs

CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
"""Bit numbers, include/uapi/linux/capability.h."""

XDP_NEEDS = ("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON")
"""To load and attach the packet program. CAP_SYS_ADMIN includes the first and the last."""

PROMISCUOUS_NEEDS = ("CAP_NET_RAW",)
"""To open a packet socket."""

USER_NEEDS = ("CAP_SETGID", "CAP_SETUID")
"""To become another user."""

BPF_NEEDS = ("CAP_BPF", "CAP_PERFMON")
"""To load a program at all."""

NCCL_NEEDS = ("CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE")
"""To load and attach the probes, and to read the mappings of other users' processes."""


def effective() -> frozenset[str]:
    """The effective capabilities of this process among CAPABILITIES (CapEff in /proc/self/status)."""
    bits = int(_status_field("CapEff"), 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if bits >> bit & 1)


def missing(needed: tuple[str, ...]) -> list[str]:
    """Those of `needed` not in effect. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON."""
    held = effective()
    if "CAP_SYS_ADMIN" in held:
        held |= {"CAP_BPF", "CAP_PERFMON"}
    return [name for name in needed if name not in held]


def require(needed: tuple[str, ...], purpose: str) -> None:
    """Raise PrivilegeError naming the capabilities missing for `purpose`."""
    lacking = missing(needed)
    if lacking:
        raise PrivilegeError(f"{purpose} needs {' and '.join(lacking)}: run it with sudo, or grant these capabilities")


def explain(error: KernelError) -> PrivilegeError:
    """The probable cause of EPERM: capabilities, user namespace, lockdown, memlock."""
    return PrivilegeError(f"{error}: {_cause()}")


def _cause() -> str:
    lacking = missing(BPF_NEEDS)
    if lacking:
        return f"{', '.join(lacking)} missing: run it with sudo, or grant these capabilities"
    if not _in_first_user_namespace():
        return "capabilities of a user namespace (a rootless container?) do not count for BPF: run it on the host"
    lockdown = _read(str(sysfs() / "kernel/security/lockdown"))  # not mounted in a container's own sysfs
    locked = re.search(r"\[(integrity|confidentiality)\]", lockdown)
    if locked:
        return f"the kernel is locked down ({locked.group(1)}, /sys/kernel/security/lockdown): BPF is restricted"
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _charges_memory_to_cgroup():
        advice = "run `ulimit -l unlimited` first"
        return f"before Linux 5.11 BPF memory is locked memory, limited to {limit} bytes: {advice}"
    return "all capabilities are present; a security module or a container's seccomp filter may forbid bpf()"


def raise_memlock_limit() -> None:
    """Lift RLIMIT_MEMLOCK on kernels that charge BPF memory to it; a no-op without CAP_SYS_RESOURCE."""
    if _charges_memory_to_cgroup():
        return
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        return  # map creation fails with EPERM, which explain() interprets


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files to the hard one: without multi links each probed function takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _charges_memory_to_cgroup() -> bool:
    """Linux 5.11 moved BPF memory from RLIMIT_MEMLOCK to the memory cgroup."""
    version = re.match(r"(\d+)\.(\d+)", _read("/proc/sys/kernel/osrelease"))
    return version is None or (int(version.group(1)), int(version.group(2))) >= (5, 11)


def _in_first_user_namespace() -> bool:
    return _read("/proc/self/uid_map").split() in ([], ["0", "0", "4294967295"])


def _status_field(name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found.group(1) if found else "0"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
