"""Compiles the tests' own BPF programs and loads them with the package's loader."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from tests.nccl.native import PROGRAMS, compile_native
from xtrace.kernel.bpf import Map, Program
from xtrace.kernel.elf import ObjectSpec, parse_object, patch_constants

ROOT = Path(__file__).parents[2]
COMPILED = os.environ.get("XTRACE_TEST_OBJECTS")
"""A directory filled by `python -m tests.support.build`, for machines without clang."""


@lru_cache
def compile_bpf(source: Path) -> ObjectSpec:
    """Return the object of one C file, compiled unless it is in XTRACE_TEST_OBJECTS."""
    data = object_in(Path(COMPILED), source).read_bytes() if COMPILED else clang(source)
    return parse_object(data, source.name)


def clang(source: Path) -> bytes:
    """Compile with the flags of the package's objects."""
    headers = [f"-I{ROOT / 'csrc'}", f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"]
    flags = ["-target", "bpf", "-O2", "-g", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"]
    command = ["clang", *flags, *headers, "-c", str(source), "-o", "-"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def object_in(directory: Path, source: Path) -> Path:
    """Return the path of a source's object in the directory."""
    return directory / source.relative_to(ROOT).with_suffix(".o")


def compile_all(directory: Path) -> None:
    """Compile all C programs of the tests: those of nccl for the host, all others for BPF."""
    for name in PROGRAMS:
        compile_native(name, directory / "tests/nccl")
    for source in sorted(set((ROOT / "tests").rglob("*.c")) - set((ROOT / "tests/nccl").glob("*.c"))):
        target = object_in(directory, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(clang(source))


@contextmanager
def loaded(spec: ObjectSpec, program: str, values: Mapping[str, int] | None = None) -> Iterator[Program]:
    """Load a program of `spec` with its own maps and its constants set to `values`."""
    with ExitStack() as owned:
        maps = {
            name: owned.enter_context(Map.create(patch_constants(m, values or {}) if name == "rodata" else m))
            for name, m in spec.maps.items()
        }
        yield owned.enter_context(Program.prepare(spec.programs[program], maps, licence=spec.license)())


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]))
