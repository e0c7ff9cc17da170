"""`python -m tests.changes.build FILE`: compile, in place, what a C file is part of; unlike pip without setuptools."""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import build_ffi
from tests.support.build import clang

OBJECTS = {"xtrace/xdp_monitor.o": "csrc/xdp_monitor.c", "xtrace/nccl_probe.o": "csrc/nccl_probe.c"}
EXTENSION = "xtrace/_native.abi3.so"
OF_THE_EXTENSION = {*build_ffi.SOURCES, *build_ffi.HEADERS, "csrc/traffic_type.h"}


def compile_extension(root: Path) -> None:
    """The shim and the renderer, with the flags of the package."""
    generated = root / "build" / "_native.c"
    generated.parent.mkdir(exist_ok=True)
    build_ffi.ffibuilder.emit_c_code(str(generated))
    macros = [f"-D{name}={value}" for name, value in build_ffi.MACROS]
    headers = [*(f"-I{root / folder}" for folder in build_ffi.INCLUDES), f"-I{sysconfig.get_path('include')}"]
    compiler = shlex.split(sysconfig.get_config_var("CC"))
    sources = [str(generated), *(str(root / source) for source in build_ffi.SOURCES)]
    command = [*compiler, "-shared", "-fPIC", *build_ffi.FLAGS, *macros, *headers, *sources]
    subprocess.run([*command, "-o", str(root / EXTENSION)], check=True)


def main(changed: str) -> None:
    """Compile everything that the file is part of."""
    root = Path.cwd()
    if changed in OF_THE_EXTENSION:
        compile_extension(root)
    if changed not in build_ffi.SOURCES:
        for target, source in OBJECTS.items():
            if changed not in OBJECTS.values() or changed == source:
                (root / target).write_bytes(clang(root / source))


if __name__ == "__main__":
    main(sys.argv[1])
