"""The kernel matrix: `python -m tests.vm [SUITE ...]` boots each kernel and runs the tests in it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.vm.debian import MissingTool, need
from tests.vm.guest import boot
from tests.vm.image import TOOLS, Cache, pack_source
from tests.vm.table import Outcome, table

SUITES = {
    "bullseye": "5.10",
    "bookworm": "6.1",
    "bookworm-backports": "6.12",
    "trixie-backports": "the newest",
}
"""Debian's suites, and the kernels they are here for."""

TESTS = "tests/kernel,tests/netns"


def cache_directory() -> Path:
    """XTRACE_VM_CACHE, else in the user's cache directory."""
    chosen = os.environ.get("XTRACE_VM_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xtrace-catch/vm"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    known = ", ".join(f"{name} ({kernel})" for name, kernel in SUITES.items())
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of Debian: {known}; default all")
    parser.add_argument("--source", type=Path, default=Path.cwd(), help="the built tree under test (default .)")
    parser.add_argument("--tests", default=TESTS, help=f"pytest's arguments, by comma (default {TESTS})")
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="for one guest (default %(default)s)")
    parser.add_argument("--refresh", action="store_true", help="fetch everything again, newer kernels too")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {', '.join(sorted(unknown))}: one of {known}")
    return options


def run(options: argparse.Namespace) -> int:
    """Boot one guest after the other; the number of those that failed."""
    for command, package in {"qemu-system-x86_64": "qemu-system-x86", **TOOLS}.items():
        need(command, package)
    cache = Cache(cache_directory(), refresh=options.refresh)
    outcomes = []
    with tempfile.TemporaryDirectory(dir=cache.directory) as scratch:
        source = Path(scratch) / "source.cpio"
        pack_source(options.source, source, Path(scratch))
        shared = [cache.user(), cache.python(), source]
        for suite in options.suites or SUITES:
            kernel = cache.kernel(suite)
            print(f"{suite}: booting", file=sys.stderr)
            kept = cache.directory / "runs" / suite
            archives = [*shared, kernel.modules]
            ended = boot(kernel.image, archives, kept, options.timeout, f"xtrace_tests={options.tests}")
            outcomes.append(Outcome(suite, ended, kept))
            print(outcomes[-1].summary(), file=sys.stderr)
    print(table(outcomes))
    return sum(not outcome.passed for outcome in outcomes)


def main() -> int:
    try:
        return 1 if run(parsed()) else 0
    except (MissingTool, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"test-vm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
