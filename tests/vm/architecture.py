"""The machines that are emulated: by the last part of a suite's name, "bookworm-arm64"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ARM64_SUFFIX = "-arm64"


@dataclass(frozen=True)
class Architecture:
    """What differs between the guests of two architectures."""

    name: str
    """Debian's"""
    machine: str
    """the kernel's, which wheels are named by"""
    emulator: str
    package: str
    """which has the emulator"""
    options: tuple[str, ...]
    """the emulator's"""
    second_serial: tuple[str, ...]
    """the emulator's, for the serial line of the reports"""
    command_line: str
    """the kernel's"""

    def reports(self, file: Path) -> Sequence[str]:
        """The emulator's options for the serial line by which the guest reports."""
        return ("-chardev", f"file,id=reports,path={file}", *self.second_serial)


AMD64 = Architecture(
    "amd64", "x86_64", "qemu-system-x86_64", "qemu-system-x86",
    ("-machine", "q35", "-cpu", "max"), ("-serial", "chardev:reports"),
    "console=ttyS0 xtrace_reports=/dev/ttyS1 tsc=reliable clocksource=hpet no_timer_check",
)  # fmt: skip
"""The emulated TSC has the host's rate, which a guest that boots on a busy machine measures wrongly: seven times as
many seconds as there were have been seen. HPET's rate is known."""

ARM64 = Architecture(
    "arm64", "aarch64", "qemu-system-aarch64", "qemu-system-arm",
    ("-machine", "virt", "-cpu", "cortex-a72"), ("-device", "pci-serial,chardev=reports"),
    "console=ttyAMA0 xtrace_reports=/dev/ttyS0",
)  # fmt: skip
"""The machine has one serial line of its own; the other one is a PCI card's. Emulating what newer CPUs sign pointers
with takes most of the time."""


def architecture_of(suite: str) -> Architecture:
    """Of one suite's guests."""
    return ARM64 if suite.endswith(ARM64_SUFFIX) else AMD64
