"""`python -m tests.changes.build PART...`: compile built files of the package in place, without setuptools."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import build_ffi
from tests.support.build import clang

OBJECTS = {
    f"xtrace/{name}.o": f"csrc/{name}.c"
    for name in ("xdp_monitor", "xdp_monitor_hash", "nccl_probe", "owner_probe", "tcp_probe", "tcp_packets")
}
INCLUDE = re.compile(r'^#include "(\w+\.[ch])"', re.M)
EXTENSION = "xtrace/_native.abi3.so"
OF_THE_EXTENSION = {*build_ffi.SOURCES, *build_ffi.HEADERS, "csrc/traffic_type.h"}


def parts(root: Path, changed: str) -> set[str]:
    """What the file is part of, of the built files of the package."""
    objects = {target for target, source in OBJECTS.items() if changed in included(root, source)}
    return objects | ({EXTENSION} if changed in OF_THE_EXTENSION else set())


def included(root: Path, source: str) -> set[str]:
    """The file and what it includes of csrc/, directly or not."""
    found, new = set[str](), {source}
    while new:
        found |= new
        named = {f"csrc/{name}" for path in new for name in INCLUDE.findall((root / path).read_text())}
        new = named - found
    return found


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
    libraries = [f"-l{library}" for library in build_ffi.LIBRARIES]
    subprocess.run([*command, "-o", str(root / EXTENSION), *libraries], check=True)
    subprocess.run([sys.executable, "-c", "import xtrace._native"], cwd=root, check=True)  # what it needs is there


def main(parts: Sequence[str]) -> None:
    """Compile these. Raises if the compiler refuses one."""
    root = Path.cwd()
    for part in parts:
        if part == EXTENSION:
            compile_extension(root)
        else:
            (root / part).write_bytes(clang(root / OBJECTS[part]))


if __name__ == "__main__":
    main(sys.argv[1:])
