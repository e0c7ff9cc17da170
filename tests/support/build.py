"""Compiling the tests' own BPF programs, and loading them through the package's loader."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from xtrace.kernel.bpf import Map, Program
from xtrace.kernel.elf import ObjectSpec, parse_object, patch_constants

ROOT = Path(__file__).parents[2]


@lru_cache
def compile_bpf(source: Path) -> ObjectSpec:
    """Compile one C file with the flags of the package's own object.

    Where there is no compiler, as in the machines of tests/vm, XTRACE_TEST_OBJECTS names a directory of objects.
    """
    ready = os.environ.get("XTRACE_TEST_OBJECTS")
    if ready:
        return parse_object((Path(ready) / f"{source.stem}.o").read_bytes(), source.name)
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "test.o"
        headers = [f"-I{ROOT / 'csrc'}", f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"]
        flags = ["-target", "bpf", "-O2", "-g", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["clang", *flags, *headers, "-c", source, "-o", target], check=True)
        return parse_object(target.read_bytes(), source.name)


@contextmanager
def loaded(spec: ObjectSpec, program: str, values: Mapping[str, int] | None = None) -> Iterator[Program]:
    """A program of `spec` with maps of its own, its constants set to `values`."""
    with ExitStack() as owned:
        maps = {
            name: owned.enter_context(Map.create(patch_constants(m, values or {}) if name == "rodata" else m))
            for name, m in spec.maps.items()
        }
        yield owned.enter_context(Program.load(spec.programs[program], maps, licence=spec.license))
