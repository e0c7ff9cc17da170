"""One guest, from power on to power off, in software emulation (never KVM)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.debian import need
from tests.vm.image import Kernel

COMMAND_LINE = "loglevel=5 panic=-1 mitigations=off nowatchdog"
"""Level 5 shows the kernel's warnings."""

EMULATION = "tcg,thread=single"
"""Both CPUs in one thread. With a thread for each, one boot in ten ended in "Oops: int3" with QEMU 7.2: a CPU ran
code as it was before the guest's kernel patched it."""

COMPLAINT = re.compile(r"^.*(?:Kernel panic|BUG:|Oops|WARNING: CPU|WARNING: .* at |general protection fault).*$", re.M)
"""A line of the kernel's that no passing test excuses."""


@dataclass(frozen=True)
class Ended:
    """What a guest left."""

    records: list[dict[str, Any]]
    """what tests.vm.inside reported, as far as it came"""
    complaints: list[str]
    """the kernel's"""
    seconds: float
    in_time: bool


def boot(
    kernel: Kernel,
    archives: Sequence[Path],
    directory: Path,
    limit_s: float,
    arguments: str,
    devices: Sequence[str] = (),
) -> Ended:
    """Run a guest to its end, or kill it after `limit_s`; `directory` keeps its console and reports.

    `devices` are further arguments of the emulator's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    console, reports, root = directory / "console", directory / "reports", directory / "root.cpio"
    with root.open("wb") as whole:
        for archive in archives:
            with archive.open("rb") as part:
                shutil.copyfileobj(part, whole)
    machine = kernel.architecture
    command = [
        need(machine.emulator, machine.package), "-accel", EMULATION, *machine.options,
        "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", str(kernel.image), "-initrd", str(root),
        "-append", f"{COMMAND_LINE} {machine.command_line} {arguments}",
        "-serial", f"file:{console}", *machine.reports(reports), *devices,
    ]  # fmt: skip
    begun = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            process.wait(limit_s)
            in_time = True
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            process.kill()
            root.unlink()
    said = console.read_text(errors="replace")
    return Ended(_parse(reports), COMPLAINT.findall(said), time.monotonic() - begun, in_time)


def _parse(reports: Path) -> list[dict[str, Any]]:
    """The reports; a killed guest's last line may be cut."""
    lines = reports.read_text(errors="replace").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
