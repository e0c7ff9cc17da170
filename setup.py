"""Builds the system call shim (cffi) and the BPF objects (clang) next to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BPF_SOURCES = ("csrc/xdp_monitor.c", "csrc/xdp_monitor_hash.c", "csrc/nccl_probe.c", "csrc/tcp_probe.c")
BPF_FLAGS = ("-target", "bpf", "-O2", "-g", "-mcpu=v3", "-Wall", "-Wextra", "-Werror")


def need(command: str, package: str) -> str:
    """Return the path of `command`, or end the build with one line."""
    path = shutil.which(command)
    if path is None:
        sys.exit(f"xtrace-catch: {command} not found, needed to build (Debian, Ubuntu: apt-get install {package})")
    return path


def kernel_headers() -> list[str]:
    """Return the include path of asm/types.h, which Debian keeps by architecture and clang does not find for BPF."""
    multiarch = sysconfig.get_config_var("MULTIARCH")
    return [f"-I/usr/include/{multiarch}"] if multiarch else []


def compile_bpf(clang: str, source: str, directory: Path) -> None:
    """Compile one BPF source, without local paths in its debug information."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory.resolve() / Path(source).with_suffix(".o").name
    map_paths = f"-fdebug-prefix-map={ROOT}=."
    command = [clang, *BPF_FLAGS, map_paths, *kernel_headers(), "-c", source, "-o", str(target)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:  # noqa: S603
        sys.exit(f"xtrace-catch: clang failed to compile {source}; kernel headers are in linux-libc-dev")


class Build(build_ext):
    """Builds extension and BPF objects into the same directory, in the tree or in the wheel."""

    def run(self) -> None:
        """Check for the tools first, to report a missing one in one line."""
        clang = need("clang", "clang")
        need(sysconfig.get_config_var("CC").split()[0], "gcc")
        super().run()
        for source in BPF_SOURCES:
            compile_bpf(clang, source, Path(self.get_ext_fullpath("xtrace._native")).parent)


setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
