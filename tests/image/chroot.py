"""The static executable where nothing else is: an empty directory as root, with /proc and /sys."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.net import ROOT, Namespace

EXECUTABLE = ROOT / "dist/xtrace-catch"
LIMIT_S = 60

MOUNT = 'mount -t proc proc "$0/proc" && mount -t sysfs sysfs "$0/sys" && exec chroot "$0" /xtrace-catch "$@"'
"""In a mount namespace of its own; $0 is the directory."""


def empty_root(directory: Path) -> Path:
    """`directory` with the executable and nothing else."""
    shutil.copyfile(EXECUTABLE, directory / "xtrace-catch")
    (directory / "xtrace-catch").chmod(0o755)
    (directory / "proc").mkdir()
    (directory / "sys").mkdir()
    return directory


def bare(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end where there is not even /proc, with these variables and no others."""
    command = ["chroot", str(root), "/xtrace-catch", *arguments]
    # an absolute path of chroot: the environment has no PATH
    return subprocess.run(
        [str(shutil.which("chroot")), *command[1:]], capture_output=True, env=variables, timeout=LIMIT_S, check=False
    )


def usual(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """What the package prints as it is usually installed."""
    command = [str(ROOT / ".venv/bin/xtrace-catch"), *arguments]
    return subprocess.run(command, capture_output=True, env=variables, timeout=LIMIT_S, check=False)


@contextmanager
def running(
    namespace: Namespace, root: Path, *arguments: str, variables: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """The executable in `root` and a network namespace, its output piped; killed at the end of the block."""
    kept = {"PATH": os.environ["PATH"], **(variables or {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": kept, **options}
    command = ["unshare", "-m", "sh", "-c", MOUNT, str(root), *arguments]
    with namespace.start(*command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """Wait; exit code, data, and what was said."""
    stdout, stderr = process.communicate(timeout=LIMIT_S)
    return process.returncode, stdout, stderr.decode()
