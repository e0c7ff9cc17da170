"""Two guests on one emulated wire, with software RDMA: `python -m tests.vm.pair [SUITE ...]` runs tests/rdma in one.

The tests run in guest a; guest b does what they tell it (tests/vm/pair_inside.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.vm.__main__ import SUITES, cache_directory
from tests.vm.debian import MissingTool, need
from tests.vm.guest import Ended, boot
from tests.vm.image import TOOLS, Cache, Kernel, pack_source
from tests.vm.table import Outcome, table

TESTED = ("bullseye", "trixie-backports")
"""Linux 5.10 and the newest."""

PACKAGES = ("ibverbs-providers", "ibverbs-utils", "perftest", "rdmacm-utils", "tcpdump", "victoria-metrics")
MODULES = (
    "crc32_generic", "crc32c_generic", "ib_umad", "ib_uverbs", "rdma_rxe", "rdma_ucm", "virtio_net", "virtio_pci",
)  # fmt: skip
"""What the pair needs beside what a single guest has."""

INSIDE = "xtrace_inside=tests.vm.pair_inside"
TESTS = "tests/rdma"
SOCKET_WITHIN_S = 20


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.pair", description=__doc__)
    known = ", ".join(f"{name} ({kernel})" for name, kernel in SUITES.items())
    default = ", ".join(TESTED)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of Debian: {known}; default {default}")
    parser.add_argument("--source", type=Path, default=Path.cwd(), help="the built tree under test (default .)")
    parser.add_argument("--tests", default=TESTS, help=f"pytest's arguments, by comma (default {TESTS})")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="for the guests (default %(default)s)")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {', '.join(sorted(unknown))}: one of {known}")
    return options


def network(role: str, wire: Path) -> list[str]:
    """The emulator's arguments for one end of the wire. QEMU 7.2 brought wires of unix sockets."""
    number = 1 if role == "a" else 2
    server = "on" if role == "a" else "off"
    return [
        "-netdev", f"stream,id=wire,server={server},addr.type=unix,addr.path={wire}",
        "-device", f"virtio-net-pci,netdev=wire,mac=52:54:00:77:00:{number:02x}",
    ]  # fmt: skip


def boot_pair(kernel: Kernel, archives: Sequence[Path], kept: Path, limit_s: float, tests: str) -> tuple[Ended, Ended]:
    """Run both guests to their ends."""
    with tempfile.TemporaryDirectory(prefix="xt-pair-") as short, ThreadPoolExecutor(2) as both:
        wire = Path(short) / "wire"
        guests = []
        for role in ("a", "b"):
            arguments = f"{INSIDE} xtrace_role={role} xtrace_tests={tests}"
            where = (kernel.image, archives, kept / role, limit_s, arguments, network(role, wire))
            guests.append(both.submit(boot, *where))
            deadline = time.monotonic() + SOCKET_WITHIN_S
            while not wire.exists() and not guests[0].done() and time.monotonic() < deadline:
                time.sleep(0.05)  # the emulator makes the socket some moments after its start
        return guests[0].result(), guests[1].result()


def run(options: argparse.Namespace) -> int:
    """Boot pair after pair; the number of those that failed."""
    for command, package in {"qemu-system-x86_64": "qemu-system-x86", **TOOLS}.items():
        need(command, package)
    cache = Cache(cache_directory())
    outcomes = []
    with tempfile.TemporaryDirectory(dir=cache.directory) as scratch:
        source = Path(scratch) / "source.cpio"
        pack_source(options.source, source, Path(scratch))
        shared = [cache.user(PACKAGES), cache.python(), source]
        for suite in options.suites or TESTED:
            kernel = cache.kernel(suite, MODULES)
            print(f"{suite}: booting two guests", file=sys.stderr)
            kept = cache.directory / "pairs" / suite
            first, second = boot_pair(kernel, [*shared, kernel.modules], kept, options.timeout, options.tests)
            first.complaints.extend(f"b: {line}" for line in second.complaints)
            outcomes.append(Outcome(suite, first, kept / "a"))
            print(outcomes[-1].summary(), file=sys.stderr)
    print(table(outcomes))
    return sum(not outcome.passed for outcome in outcomes)


def main() -> int:
    try:
        return 1 if run(parsed()) else 0
    except (MissingTool, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"test-rdma: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
