"""Compiles the system call shim into `xtrace._native` (cffi, API mode).

The C headers are the only place where structs are written down: their text, without preprocessor
lines and comments cffi cannot read, is the cdef.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
HEADERS = ("csrc/flow.h", "csrc/nccl.h", "csrc/shim.h", "csrc/render.h")
KERNEL_TYPES = (
    "typedef unsigned char __u8;\ntypedef unsigned short __u16;\ntypedef unsigned int __u32;\n"
    "typedef unsigned long long __u64;\ntypedef int __s32;\ntypedef long long __s64;\n"
)
"""As asm-generic/int-ll64.h defines them. uint64_t is `unsigned long` on 64-bit machines: a pointer to it is none to
__u64, which gcc 14 refuses."""


def definitions(header: str) -> str:
    """The text of `header` as cffi wants it: no comments, of the preprocessor's lines only defines."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / header).read_text(), flags=re.DOTALL)
    text = re.sub(r"^#(?!define).*$", "", text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def version() -> str:
    """The one version, from pyproject.toml (tomllib came with Python 3.11)."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("pyproject.toml has no version")
    return found.group(1)


MODULE = "xtrace._native"
INCLUDED = ("<stddef.h>", "<linux/types.h>", *(f'"{Path(header).name}"' for header in HEADERS))
PREAMBLE = "".join(f"#include {name}\n" for name in INCLUDED)
SOURCES = ["csrc/shim.c", "csrc/render.c"]
INCLUDES = ["csrc"]
MACROS = [("XT_VERSION", f'"{version()}"')]
# paths of this machine stay out of the debug information, which Python's own flags may ask for
FLAGS = [f"-ffile-prefix-map={ROOT}=.", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter"]

ffibuilder = FFI()
ffibuilder.cdef(KERNEL_TYPES + "".join(definitions(header) + "\n" for header in HEADERS))
ffibuilder.set_source(
    MODULE,
    PREAMBLE,
    sources=SOURCES,
    include_dirs=INCLUDES,
    depends=[*HEADERS, *SOURCES, "pyproject.toml"],
    define_macros=MACROS,
    extra_compile_args=FLAGS,
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
