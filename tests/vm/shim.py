"""The shim for guests of another architecture than this machine's, compiled here by clang and LLVM's linker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.vm.architecture import Architecture
from tests.vm.debian import need

PACKAGES = ("libc6-dev", "libcrypt-dev", "libpython3.11-dev", "linux-libc-dev")
"""Headers and libraries of the guest's architecture, of the suite that its programs are of."""

TOLD = """
import contextlib, sys
import build_ffi as told
with contextlib.redirect_stdout(sys.stderr):
    told.ffibuilder.emit_c_code(sys.argv[1])
macros = [f"-D{name}={value}" for name, value in told.MACROS]
print(*told.FLAGS, *macros, *(f"-I{name}" for name in told.INCLUDES), *told.SOURCES, sys.argv[1], sep="\\n")
print(*(f"-l{name}" for name in told.LIBRARIES), sep="\\n")
"""
"""What compiles the shim of a tree, a word a line."""


def compile_shim(source: Path, sysroot: Path, architecture: Architecture, target: Path) -> None:
    """Compile the shim of the tree in `source` into `target`; `sysroot` is where PACKAGES are unpacked."""
    generated = target.with_suffix(".c")
    words = subprocess.run(
        [sys.executable, "-B", "-c", TOLD, str(generated)], cwd=source, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    need("ld.lld", "lld")
    command = [
        need("clang", "clang"), f"--target={architecture.machine}-linux-gnu", f"--sysroot={sysroot}", "-fuse-ld=lld",
        "-shared", "-fPIC", "-nostdlib", f"-I{sysroot}/usr/include/python3.11", "-o", str(target), *words, "-lc",
    ]  # fmt: skip
    subprocess.run(command, cwd=source, check=True)
    generated.unlink()
