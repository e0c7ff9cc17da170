"""Builds the system call shim (cffi) and the BPF objects (clang) next to it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
BPF_SOURCES = (
    "csrc/xdp_monitor.c",
    "csrc/xdp_monitor_hash.c",
    "csrc/nccl_probe.c",
    "csrc/tcp_probe.c",
    "csrc/owner_probe.c",
    "csrc/tcp_packets.c",
)
CARRIED = ROOT / "bpf"
"""The BPF objects in a source distribution, which is thus built without clang; a clone does not have them."""
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


def compile_bpf(clang: str, source: str, directory: Path) -> Path:
    """Compile one BPF source, without local paths in its debug information, and return the object."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory.resolve() / Path(source).with_suffix(".o").name
    map_paths = f"-fdebug-prefix-map={ROOT}=."
    command = [clang, *BPF_FLAGS, map_paths, *kernel_headers(), "-c", source, "-o", str(target)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:  # noqa: S603
        sys.exit(f"xtrace-catch: clang failed to compile {source}; kernel headers are in linux-libc-dev")
    return target


def drop_debug_sections(path: Path) -> None:
    """Drop DWARF from an object: clang needs it to make BTF, nothing else does, and it is most of the file.

    Sections keep their numbers; the dropped ones become SHT_NULL, without contents (elf(5), 64 bits, little endian).
    """
    content = path.read_bytes()
    table, size, count, names = struct.unpack_from("<40xQ10xHHH", content)
    headers = [list(struct.unpack_from("<IIQQQQIIQQ", content, table + i * size)) for i in range(count)]
    names_at, no_bits = headers[names][4], 8
    kept = bytearray(content[: struct.unpack_from("<52xH", content)[0]])
    for header in headers:
        begin = names_at + header[0]
        name = content[begin : content.index(b"\0", begin)]
        if name.startswith((b".debug_", b".rel.debug_")):
            header[1:] = [0] * 9
        elif header[1] not in (0, no_bits):
            kept += bytes(-len(kept) % max(header[8], 1))
            offset, length = header[4:6]
            header[4] = len(kept)
            kept += content[offset : offset + length]
    kept += bytes(-len(kept) % 8)
    struct.pack_into("<Q", kept, 40, len(kept))
    path.write_bytes(kept + b"".join(struct.pack("<IIQQQQIIQQ", *header) for header in headers))


def check_tools() -> None:
    """End the build with one line if a compiler is missing."""
    need(sysconfig.get_config_var("CC").split()[0], "gcc")
    if not CARRIED.is_dir():
        need("clang", "clang")


def make_objects(directory: Path) -> None:
    """Put the BPF objects into `directory`: those that the source distribution carries, else compiled."""
    if CARRIED.is_dir():
        shutil.copytree(CARRIED, directory, dirs_exist_ok=True)
        return
    clang = need("clang", "clang")
    for source in BPF_SOURCES:
        drop_debug_sections(compile_bpf(clang, source, directory))


class Build(build_ext):
    """Builds extension and BPF objects into the same directory, in the tree or in the wheel."""

    def run(self) -> None:
        """Check for the tools first, to report a missing one in one line."""
        check_tools()
        super().run()
        make_objects(Path(self.get_ext_fullpath("xtrace._native")).parent)


class SourceDistribution(sdist):
    """Adds the BPF objects to the sources."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Fill the directory that is packed."""
        super().make_release_tree(base_dir, files)
        make_objects(Path(base_dir) / CARRIED.name)


setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": Build, "sdist": SourceDistribution},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
