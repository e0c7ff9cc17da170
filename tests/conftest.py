"""Tiers, and what every test is held to: nothing it opened, loaded or created may be left.

unit    no privilege
kernel  BPF_PROG_TEST_RUN: root, and a built package
netns   network namespaces, veth, real traffic: root, iproute2
image   the static executable in an empty root: root, `make static`
container  the image under an engine: root, `make docker-build`
rdma    software RDMA between two emulated guests: make test-rdma; nowhere else is it collected
push    metrics and flow records to real servers on loopback: root, victoria-metrics, promtool, nfdump, pmacct, tshark
nccl    uprobes on a stand-in of NCCL, and on NCCL itself where it is cached: root, gcc

A tier that cannot run skips with the reason. XTRACE_REQUIRE (tier names by comma, or `all`) makes that
a failure.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests import programs
from xtrace.kernel import privileges

# what the helpers assert is to be shown with its values, as in the tests themselves
pytest.register_assert_rewrite("tests.support", "tests.netns.tool", "tests.netns.load", "tests.kernel.counter")

# a shell's background has SIGINT ignored, nohup SIGHUP, and so would what tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.pop("NOTIFY_SOCKET", None)  # the manager of a service that runs tests is none of theirs

TESTS = Path(__file__).parent
REQUIRED = frozenset(filter(None, os.environ.get("XTRACE_REQUIRE", "").split(",")))

collect_ignore = [] if "container" in REQUIRED else ["container"]
"""That tier takes an engine and an image, which is minutes to build: `make test-container` asks for it by name."""

FREED_WITHIN_S = 60
"""Programs are freed after grace periods, which take seconds on a machine under load."""

ALL_PROCESSES = Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC  # PROC_PID_INIT_INO, linux/proc_fs.h
"""Whether /proc shows all of the machine's, by the numbers that BPF programs see: not in a container."""

CLANG = () if "XTRACE_TEST_OBJECTS" in os.environ else ("clang",)
GCC = () if "XTRACE_TEST_OBJECTS" in os.environ else ("gcc",)
TOOLS = {
    "unit": (),
    "kernel": (*CLANG, "bpftool"),
    "container": ("docker", "ping", "bpftool"),
    "image": ("ldd", "unshare", "chroot", "setcap", "setpriv", "ip", "ping", "openssl", "bpftool", "time"),
    "netns": (*CLANG, "bpftool", "ethtool", "ip", "ping", "iperf3", "jq", "bash"),
    "rdma": ("bpftool", "ib_send_bw", "rdma", "tcpdump"),
    "push": (
        *CLANG,
        "bpftool",
        "ip",
        "victoria-metrics",
        "promtool",
        "nfcapd",
        "nfacctd",
        "tshark",
        "openssl",
        "curl",
        "bash",
    ),
    "nccl": (*GCC, "bpftool", "unshare", "mount"),
}
REMEDY = {"container": "install an engine", "rdma": "make test-rdma"}
"""Where `make deps` does not install it."""


def tier_of(item: pytest.Item) -> str:
    """The directory below tests/ that holds the test."""
    return item.path.relative_to(TESTS).parts[0]


def why_not(tier: str) -> str | None:
    """What is missing for the tier here."""
    if tier != "unit" and os.geteuid() != 0:
        return f"tier {tier} needs root: sudo make test"
    lacking = [tool for tool in TOOLS.get(tier, ()) if shutil.which(tool) is None]
    if lacking:
        return f"tier {tier} needs {', '.join(lacking)}: {REMEDY.get(tier, 'sudo make deps')}"
    if tier not in ("unit", "kernel") and not root_is_mounted():
        return f"tier {tier} needs a root that is a mount point: mount --bind DIR DIR before chroot DIR"
    if tier == "nccl" and not ALL_PROCESSES:
        return "tier nccl needs the machine's process numbers: it cannot run in a container's"
    return None


@cache
def root_is_mounted() -> bool:
    """Whether `ip netns exec` and `unshare --mount` work: they change how mounts at / propagate."""
    return any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines())


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = why_not(tier_of(item))
    if reason:
        skip_or_fail(tier_of(item), reason)


def skip_or_fail(tier: str, reason: str) -> None:
    """Skip, unless XTRACE_REQUIRE demands the tier."""
    if REQUIRED & {"all", tier}:
        pytest.fail(f"XTRACE_REQUIRE={os.environ['XTRACE_REQUIRE']}: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A skip inside a test is a failure too where its tier is required."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and REQUIRED & {"all", tier_of(item)} and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although XTRACE_REQUIRE demands it: {report.longrepr}"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Name the tests that failed, a line each, in the file XTRACE_FAILED, where that is given (.ci/again)."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED and "XTRACE_FAILED" in os.environ:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        reports = (report for kind in ("failed", "error") for report in reporter.stats.get(kind, ()))
        failed = dict.fromkeys(report.nodeid for report in reports)
        Path(os.environ["XTRACE_FAILED"]).write_text("".join(f"{nodeid}\n" for nodeid in failed))


def open_descriptors() -> dict[int, str]:
    """Number and target of every descriptor of this process."""
    # realpath, unlike readlink, takes the descriptor of the listing itself, which is gone by now
    return {int(entry.name): os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}


OURS = frozenset(
    {
        "xdp_ingress",
        "tc_packet",
        "tc_beside_xdp",
        "follow_tcp",
        "sample_clock",
        "complete_entries",
        "call_begins",
        "call_returns",
    }
)


def loaded_programs(names: Collection[str] = OURS) -> set[int]:
    """Ids of the programs of these names that the kernel has."""
    return {number for number, name in programs.loaded().items() if name in names}


def ancestors(pid: int) -> Iterator[int]:
    """The process, its parent, and so on."""
    while pid > 1:
        yield pid
        status = Path(f"/proc/{pid}/status").read_bytes()  # its name may be of any bytes
        pid = next(int(line.split()[1]) for line in status.split(b"\n") if line.startswith(b"PPid:"))


def program_of(descriptor: Path) -> int:
    """The id of the program that a process's descriptor or link holds, 0 if it holds none, or is gone."""
    with suppress(OSError):
        for line in descriptor.read_bytes().split(b"\n"):
            if line.startswith(b"prog_id:"):
                return int(line.split()[1])
    return 0


def held_by_others() -> set[int]:
    """Ids of programs that processes hold which these tests did not start: a tool in use on the same machine."""
    held: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if os.getpid() not in ancestors(int(process.name)):
                held.update(map(program_of, (process / "fdinfo").iterdir()))
    return held


def left_programs(before: set[int]) -> set[int]:
    """Programs of these tests that are loaded still. The kernel frees them a moment after their owner's end.

    What others load meanwhile is not looked at, and what they hold is theirs. In a container, from which their
    processes are not seen, nobody can tell.
    """
    if not ALL_PROCESSES:
        return set()
    deadline = time.monotonic() + FREED_WITHIN_S
    left = loaded_programs() - before
    while (left := left & loaded_programs() - held_by_others()) and time.monotonic() < deadline:
        continue
    return left


def namespaces() -> set[str]:
    """Names of all network namespaces."""
    directory = Path("/run/netns")
    return {entry.name for entry in directory.iterdir()} if directory.exists() else set()


@pytest.fixture(scope="session", autouse=True)
def unlimited_memlock() -> None:
    """Before Linux 5.11 maps count as locked memory; the tool lifts the limit for itself, these tests do too."""
    privileges.raise_memlock_limit()


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaks a descriptor, one of our programs, or a namespace."""
    privileged = tier_of(request.node) != "unit"
    descriptors = open_descriptors()
    before = (loaded_programs(), namespaces()) if privileged else (set(), set())
    yield
    leaked = {fd: target for fd, target in open_descriptors().items() if fd not in descriptors}
    assert not leaked, f"descriptors left open: {leaked}"
    if privileged:
        left = left_programs(before[0])
        assert not left, f"programs left loaded: {left}"
        ours = {name for name in namespaces() - before[1] if name.startswith(f"xt{os.getpid()}-")}
        assert not ours, f"network namespaces left: {ours}"
