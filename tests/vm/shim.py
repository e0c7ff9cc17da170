"""What guests of another architecture than this machine's run of ours: the shim, and the stand-ins of mode nccl's
tests. Compiled here by clang and LLVM's linker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.nccl.native import PROGRAMS, compile_native
from tests.vm.architecture import Architecture
from tests.vm.debian import need

PACKAGES = ("libc6-dev", "libcrypt-dev", "libgcc-12-dev", "libpython3.11-dev", "linux-libc-dev")
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
    command = [
        *_compiler(sysroot, architecture), "-shared", "-fPIC", "-nostdlib", f"-I{sysroot}/usr/include/python3.11",
        "-o", str(target), *words, "-lc",
    ]  # fmt: skip
    subprocess.run(command, cwd=source, check=True)
    generated.unlink()


def compile_standins(sysroot: Path, architecture: Architecture, directory: Path) -> None:
    """Compile the programs and libraries of mode nccl's tests into the directory."""
    for name in PROGRAMS:
        compile_native(name, directory, _compiler(sysroot, architecture), architecture.machine)


def _compiler(sysroot: Path, architecture: Architecture) -> list[str]:
    need("ld.lld", "lld")
    target = f"--target={architecture.machine}-linux-gnu"
    return [need("clang", "clang"), target, f"--sysroot={sysroot}", "-fuse-ld=lld"]
