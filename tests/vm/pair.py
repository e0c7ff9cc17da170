"""Two guests on one emulated wire, with software RDMA: `python -m tests.vm.pair [SUITE ...]` runs tests/rdma in one.

The tests run in guest a; guest b does what they tell it (tests/vm/pair_inside.py).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.vm.guest import Ended, boot
from tests.vm.image import Kernel
from tests.vm.suites import exit_code, parsed, run_suites

TESTED = ("bullseye", "trixie-backports")
"""Linux 5.10 and the newest."""

PACKAGES = ("ibverbs-providers", "ibverbs-utils", "perftest", "rdmacm-utils", "tcpdump", "victoria-metrics")
MODULES = (
    "crc32_generic", "crc32c_generic", "ib_umad", "ib_uverbs", "rdma_rxe", "rdma_ucm", "virtio_net", "virtio_pci",
)  # fmt: skip
"""What the pair needs beside what a single guest has."""

INSIDE = "xtrace_inside=tests.vm.pair_inside"
TESTS = "tests/rdma"
LIMIT_S = 2400
SOCKET_WITHIN_S = 20


def network(role: str, wire: Path) -> list[str]:
    """The emulator's arguments for one end of the wire. QEMU 7.2 brought wires of unix sockets."""
    number = 1 if role == "a" else 2
    server = "on" if role == "a" else "off"
    return [
        "-netdev", f"stream,id=wire,server={server},addr.type=unix,addr.path={wire}",
        "-device", f"virtio-net-pci,netdev=wire,mac=52:54:00:77:00:{number:02x}",
    ]  # fmt: skip


def boot_pair(
    kernel: Kernel, archives: Sequence[Path], directory: Path, limit_s: float, tests: str
) -> tuple[Ended, Ended]:
    """Run both guests to their ends."""
    with tempfile.TemporaryDirectory(prefix="xt-pair-") as short, ThreadPoolExecutor(2) as both:
        wire = Path(short) / "wire"
        guests = []
        for role in ("a", "b"):
            arguments = f"{INSIDE} xtrace_role={role} xtrace_tests={tests}"
            where = (kernel, archives, directory / role, limit_s, arguments, network(role, wire))
            guests.append(both.submit(boot, *where))
            deadline = time.monotonic() + SOCKET_WITHIN_S
            while not wire.exists() and not guests[0].done() and time.monotonic() < deadline:
                time.sleep(0.05)  # the emulator makes the socket some moments after its start
        return guests[0].result(), guests[1].result()


def run() -> bool:
    """Two guests of each suite; guest a's reports are told, and what guest b's kernel complained of."""
    options = parsed("tests.vm.pair", __doc__, TESTED, TESTS, LIMIT_S)

    def boot_both(kernel: Kernel, archives: Sequence[Path], directory: Path) -> Ended:
        first, second = boot_pair(kernel, archives, directory, options.timeout, options.tests)
        first.complaints.extend(f"b: {line}" for line in second.complaints)
        return first

    return run_suites(options, boot_both, "pairs", PACKAGES, MODULES)


if __name__ == "__main__":
    sys.exit(exit_code("test-rdma", run))
