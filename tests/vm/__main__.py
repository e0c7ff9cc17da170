"""The kernel matrix: `python -m tests.vm [SUITE ...]` boots each kernel and runs the tests in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.vm.guest import Ended, boot
from tests.vm.image import Kernel
from tests.vm.suites import USUAL, exit_code, parsed, run_suites

TESTS = "tests/kernel,tests/netns"
LIMIT_S = 6000
"""A test of the netns tier takes 10 to 20 s in an emulated kernel."""


def run() -> bool:
    """One guest of each suite."""
    options = parsed("tests.vm", __doc__, USUAL, TESTS, LIMIT_S)

    def boot_one(kernel: Kernel, archives: Sequence[Path], directory: Path) -> Ended:
        # of the kernel's command line, what it does not know goes to the environment of the first process
        words = [f"xtrace_tests={options.tests}", *options.set]
        return boot(kernel, archives, directory, options.timeout, " ".join(words))

    return run_suites(options, boot_one, "runs")


if __name__ == "__main__":
    sys.exit(exit_code("test-vm", run))
