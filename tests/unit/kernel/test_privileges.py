"""Which capability is missing, and what EPERM means where none is."""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xtrace.errors import KernelError, PrivilegeError
from xtrace.kernel import privileges
from xtrace.kernel.privileges import CAPABILITIES, XDP_NEEDS, effective, explain, missing, raise_memlock_limit, require

LOCKDOWN = "/sys/kernel/security/lockdown"
RELEASE = "/proc/sys/kernel/osrelease"
UID_MAP = "/proc/self/uid_map"

ALL = tuple(CAPABILITIES)
HOST_UID_MAP = "         0          0 4294967295\n"


@dataclass
class Host:
    """What /proc and the resource limit of a machine say."""

    capabilities: tuple[str, ...] = ALL
    files: dict[str, str] = field(default_factory=lambda: {UID_MAP: HOST_UID_MAP, RELEASE: "6.1.0-13-amd64\n"})
    memlock: int = 8 << 20
    lifted: list[tuple[int, int]] = field(default_factory=list)
    may_lift: bool = True

    def status_field(self, name: str) -> str:
        assert name == "CapEff"
        return f"{sum(1 << CAPABILITIES[capability] for capability in self.capabilities):016x}"

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_MEMLOCK
        return self.memlock, self.memlock

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        if not self.may_lift:
            raise ValueError("not allowed to raise maximum limit")
        self.lifted.append(limits)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(privileges, "_status_field", made.status_field)
    monkeypatch.setattr(privileges, "_read", lambda path: made.files.get(path, ""))
    monkeypatch.setattr(resource, "getrlimit", made.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", made.setrlimit)
    return made


def explained() -> str:
    error = explain(KernelError("BPF_MAP_CREATE(flows_a)", 1))
    assert isinstance(error, PrivilegeError)
    assert error.exit_code == 77
    told = str(error)
    assert told.startswith("BPF_MAP_CREATE(flows_a): EPERM (Operation not permitted): ")
    assert "\n" not in told
    return told.split("): ", 2)[2]


def test_capabilities_are_the_bits_in_effect(host: Host) -> None:
    host.capabilities = ("CAP_NET_ADMIN", "CAP_BPF")
    assert effective() == {"CAP_NET_ADMIN", "CAP_BPF"}


@pytest.mark.parametrize(
    "bits, held",
    [
        ("0000000000000000", set()),
        ("0000000000001000", {"CAP_NET_ADMIN"}),
        ("0000000000200000", {"CAP_SYS_ADMIN"}),
        ("0000004000000000", {"CAP_PERFMON"}),
        ("0000008000000000", {"CAP_BPF"}),
        ("000001ffffffffff", set(CAPABILITIES)),
        ("0000000000080000", {"CAP_SYS_PTRACE"}),
        ("000001ff7fd7efff", set(CAPABILITIES) - {"CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"}),
        ("0000000000000002", {"CAP_DAC_OVERRIDE"}),
        ("0000000000000004", {"CAP_DAC_READ_SEARCH"}),
        ("0000010000000000", {"CAP_CHECKPOINT_RESTORE"}),
        ("0000000000002000", {"CAP_NET_RAW"}),
    ],
)
def test_capabilities_have_the_kernels_bit_numbers(bits: str, held: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "_status_field", lambda name: bits)
    assert effective() == held


def test_capabilities_of_this_process_are_read_from_proc() -> None:
    (bits,) = re.findall(r"^CapEff:\t(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert effective() == {name for name, bit in CAPABILITIES.items() if int(bits, 16) >> bit & 1}
    assert privileges._status_field("CapEff") == bits


def test_missing_file_of_proc_is_empty_and_no_failure() -> None:
    assert privileges._read(RELEASE) == Path(RELEASE).read_text()
    assert privileges._read("/proc/nonsense") == ""


@pytest.mark.parametrize(
    "held, lacking",
    [
        (ALL, []),
        ((), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]),
        (("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"), []),
        (("CAP_SYS_ADMIN", "CAP_NET_ADMIN"), []),
        (("CAP_SYS_ADMIN",), ["CAP_NET_ADMIN"]),
        (("CAP_BPF", "CAP_NET_ADMIN"), ["CAP_PERFMON"]),
        (("CAP_NET_ADMIN", "CAP_PERFMON"), ["CAP_BPF"]),
    ],
)
def test_missing_capabilities(held: tuple[str, ...], lacking: list[str], host: Host) -> None:
    host.capabilities = held
    assert missing(XDP_NEEDS) == lacking


def test_requirement_that_is_met_is_silent(host: Host) -> None:
    require(XDP_NEEDS, "mode xdp")


def test_requirement_names_purpose_capabilities_and_a_way_out(host: Host) -> None:
    host.capabilities = ("CAP_BPF",)
    with pytest.raises(PrivilegeError) as caught:
        require(XDP_NEEDS, "mode xdp")
    assert str(caught.value) == (
        "mode xdp needs CAP_NET_ADMIN and CAP_PERFMON: run it with sudo, or grant these capabilities"
    )


def test_eperm_of_a_missing_capability_names_it(host: Host) -> None:
    host.capabilities = ("CAP_BPF", "CAP_NET_ADMIN")
    assert explained() == "CAP_PERFMON missing: run it with sudo, or grant these capabilities"


@pytest.mark.parametrize("uid_map", ["0 1000 1\n", "0 100000 65536\n", "0 0 1\n"])
def test_eperm_in_a_user_namespace_names_it(uid_map: str, host: Host) -> None:
    host.files[UID_MAP] = uid_map
    assert explained() == (
        "capabilities of a user namespace (a rootless container?) do not count for BPF: run it on the host"
    )


@pytest.mark.parametrize("level", ["integrity", "confidentiality"])
def test_eperm_under_lockdown_names_its_level(level: str, host: Host) -> None:
    levels = "none integrity confidentiality"
    host.files[LOCKDOWN] = levels.replace(level, f"[{level}]") + "\n"
    assert explained() == f"the kernel is locked down ({level}, {LOCKDOWN}): BPF is restricted"


@pytest.mark.parametrize("release", ["5.10.0-28-amd64", "5.4.0", "4.19.0"])
def test_eperm_before_5_11_with_a_limit_names_memlock(release: str, host: Host) -> None:
    host.files[RELEASE] = release
    host.memlock = 65536
    assert explained() == (
        "before Linux 5.11 BPF memory is locked memory, limited to 65536 bytes: run `ulimit -l unlimited` first"
    )


SECURITY_MODULE = "all capabilities are present; a security module or a container's seccomp filter may forbid bpf()"


@pytest.mark.parametrize("release", ["5.11.0", "5.15.0-100-generic", "6.1.0", "10.0", "strange", ""])
def test_eperm_since_5_11_is_no_matter_of_memlock(release: str, host: Host) -> None:
    host.files[RELEASE] = release
    assert explained() == SECURITY_MODULE


def test_eperm_before_5_11_without_a_limit_is_no_matter_of_memlock(host: Host) -> None:
    host.files[RELEASE] = "5.10.0"
    host.memlock = resource.RLIM_INFINITY
    assert explained() == SECURITY_MODULE


def test_eperm_without_lockdown_is_no_matter_of_it(host: Host) -> None:
    host.files[LOCKDOWN] = "[none] integrity confidentiality\n"
    assert explained() == SECURITY_MODULE


def test_eperm_without_proc_is_no_matter_of_a_user_namespace(host: Host) -> None:
    host.files.clear()
    assert explained() == SECURITY_MODULE


def test_first_cause_there_is_evidence_for_is_reported(host: Host) -> None:
    host.files |= {UID_MAP: "0 1000 1", LOCKDOWN: "none [integrity]", RELEASE: "5.10.0"}
    host.capabilities = ()
    assert "CAP_BPF, CAP_PERFMON missing" in explained()
    host.capabilities = ALL
    assert "user namespace" in explained()
    host.files[UID_MAP] = HOST_UID_MAP
    assert "locked down" in explained()
    del host.files[LOCKDOWN]
    assert "before Linux 5.11" in explained()


def test_memlock_is_lifted_only_where_bpf_memory_counts(host: Host) -> None:
    raise_memlock_limit()
    assert host.lifted == []
    host.files[RELEASE] = "5.10.0"
    raise_memlock_limit()
    assert host.lifted == [(resource.RLIM_INFINITY, resource.RLIM_INFINITY)]


def test_memlock_that_may_not_be_lifted_is_left_for_the_kernel_to_refuse(host: Host) -> None:
    host.files[RELEASE] = "5.10.0"
    host.may_lift = False
    raise_memlock_limit()
    assert host.lifted == []


def test_the_limit_of_open_files_is_raised_as_far_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: raised.append((which, limits)))
    privileges.raise_open_files_limit()
    assert raised == [(resource.RLIMIT_NOFILE, (4096, 4096))]
