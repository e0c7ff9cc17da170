"""The running kernel's own type information (BTF)."""

from __future__ import annotations

from mmap import MAP_PRIVATE, PROT_READ, mmap
from pathlib import Path

from xtrace.kernel.btf import Btf

PATH = Path("/sys/kernel/btf/vmlinux")


def load() -> Btf:
    """Return the types. Raises OSError if there are none (CONFIG_DEBUG_INFO_BTF), ObjectError if they are malformed."""
    with PATH.open("rb") as file:
        try:
            # Linux 6.16, which refuses shared mappings; it spares a copy of 5 MB
            return Btf(mmap(file.fileno(), 0, flags=MAP_PRIVATE, prot=PROT_READ))
        except (OSError, ValueError):
            return Btf(file.read())
