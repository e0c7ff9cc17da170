"""What both commands of this rig share: options, archives, suite after suite, the table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.vm.architecture import AMD64, architecture_of
from tests.vm.debian import MissingTool, need
from tests.vm.guest import Ended
from tests.vm.image import TOOLS, Cache, Kernel, pack_source
from tests.vm.table import Outcome, table

SUITES = {
    "bullseye": "5.10",
    "bookworm": "6.1",
    "bookworm-backports": "6.12",
    "trixie-backports": "the newest",
    "bookworm-arm64": "6.1 on arm64",
}
"""Debian's suites, and the kernels they are here for."""

USUAL = tuple(name for name in SUITES if architecture_of(name) is AMD64)
"""What is booted unless others are named."""

Boot = Callable[[Kernel, Sequence[Path], Path], Ended]
"""Runs the guests of one suite: kernel and archives to boot, directory to keep things in."""


def cache_directory() -> Path:
    """XTRACE_VM_CACHE, else in the user's cache directory."""
    chosen = os.environ.get("XTRACE_VM_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xtrace-catch/vm"


def parsed(
    program: str, description: str | None, suites: Sequence[str], tests: str, timeout_s: int
) -> argparse.Namespace:
    """The command line: `suites`, source, tests, timeout, refresh; with the defaults that are given."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    known = ", ".join(f"{name} ({kernel})" for name, kernel in SUITES.items())
    which = f"of Debian: {known}; default {', '.join(suites)}"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=which)
    parser.add_argument("--source", type=Path, default=Path.cwd(), help="the built tree under test (default .)")
    parser.add_argument("--tests", default=tests, help=f"pytest's arguments, by comma (default {tests})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an environment variable of the tests"
    )
    parser.add_argument(
        "--timeout", type=float, default=timeout_s, metavar="S", help="of a suite (default %(default)s)"
    )
    parser.add_argument("--refresh", action="store_true", help="fetch everything again, newer kernels too")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {', '.join(sorted(unknown))}: one of {known}")
    options.suites = options.suites or list(suites)
    return options


def run_suites(
    options: argparse.Namespace, boot: Boot, kept: str, packages: Sequence[str] = (), modules: Sequence[str] = ()
) -> bool:
    """Boot one suite's guests after the other's, tell how each went, print the table; whether all passed.

    `packages` and `modules` are in the guests beside what all have; `kept` names the directory of the consoles.
    """
    emulators = {machine.emulator: machine.package for machine in map(architecture_of, options.suites)}
    for command, package in {**emulators, **TOOLS}.items():
        need(command, package)
    cache = Cache(cache_directory(), refresh=options.refresh)
    outcomes = []
    with tempfile.TemporaryDirectory(dir=cache.directory) as scratch:
        source = Path(scratch) / "source.cpio"
        pack_source(options.source, source, Path(scratch))
        for suite in options.suites:
            kernel = cache.kernel(suite, modules)
            machine = kernel.architecture
            archives = [cache.user(machine, packages), cache.python(machine), source, kernel.modules]
            if machine is not AMD64:
                archives.append(cache.shim(machine, options.source, Path(scratch) / "shim.cpio"))
            print(f"{suite}: booting", file=sys.stderr)
            directory = cache.directory / kept / suite
            ended = boot(kernel, archives, directory)
            outcomes.append(Outcome(suite, ended, directory))
            print(outcomes[-1].summary(), file=sys.stderr)
    print(table(outcomes))
    return all(outcome.passed for outcome in outcomes)


def exit_code(name: str, run: Callable[[], bool]) -> int:
    """0 where all passed, 1 where not, 2 where it could not be tried, which is said."""
    try:
        return 0 if run() else 1
    except (MissingTool, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
