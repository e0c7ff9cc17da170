"""Compiles the system call shim into `xtrace._native` (cffi, API mode).

Structs are defined only in the C headers: their text, without the preprocessor lines and comments that cffi cannot
read, is the cdef. `python build_ffi.py` (`make stub`) writes type stubs of the compiled module, xtrace/_native.pyi.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cffi import FFI

ROOT = Path(__file__).resolve().parent
HEADERS = (
    "csrc/flow.h",
    "csrc/owner.h",
    "csrc/nccl.h",
    "csrc/tcp.h",
    "csrc/tcp_path.h",
    "csrc/shim.h",
    "csrc/drain.h",
    "csrc/render.h",
    "csrc/tcp_diag.h",
    "csrc/btf.h",
    "csrc/confine.h",
    "csrc/password.h",
    "csrc/guardian.h",
)
KERNEL_TYPES = (
    "typedef unsigned char __u8;\ntypedef unsigned short __u16;\ntypedef unsigned int __u32;\n"
    "typedef unsigned long long __u64;\ntypedef int __s32;\ntypedef long long __s64;\n"
)
"""As in asm-generic/int-ll64.h. uint64_t is `unsigned long` on 64-bit machines, and gcc 14 rejects a pointer to it for
a pointer to __u64."""


def definitions(header: str) -> str:
    """Return the text of `header` for cffi: without comments and preprocessor lines except defines."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / header).read_text(), flags=re.DOTALL)
    text = re.sub(r"^#(?!define).*$", "", text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def version() -> str:
    """Return the version in pyproject.toml (tomllib needs Python 3.11)."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("pyproject.toml has no version")
    return found.group(1)


MODULE = "xtrace._native"
INCLUDED = ("<stddef.h>", "<linux/types.h>", *(f'"{Path(header).name}"' for header in HEADERS))
PREAMBLE = "".join(f"#include {name}\n" for name in INCLUDED)
NAMES = ("shim", "drain", "render", "words", "tcp_diag", "btf", "confine", "password", "guardian")
SOURCES = [f"csrc/{name}.c" for name in NAMES]
INCLUDES = ["csrc"]
LIBRARIES = ["crypt"]
MACROS = [("XT_VERSION", f'"{version()}"')]
# keep local paths out of the debug information, which Python's own flags may enable
FLAGS = [f"-ffile-prefix-map={ROOT}=.", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter"]

CDEF = KERNEL_TYPES + "".join(definitions(header) + "\n" for header in HEADERS)

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source(
    MODULE,
    PREAMBLE,
    sources=SOURCES,
    include_dirs=INCLUDES,
    libraries=LIBRARIES,
    depends=[*HEADERS, *SOURCES, "pyproject.toml"],
    define_macros=MACROS,
    extra_compile_args=FLAGS,
    py_limited_api=True,
)

STUB = ROOT / "xtrace/_native.pyi"
STUB_HEAD = '''"""Type stubs of the compiled shim, written by `make stub` from csrc/*.h."""

from typing import Any, Literal, overload

'''
STUB_FFI = """\
class _FFI:
    NULL: Any
    def addressof(self, cdata: Any, *fields: str | int) -> Any: ...
    def buffer(self, cdata: Any, size: int = ...) -> Any: ...
    def cast(self, cdecl: str, value: Any) -> Any: ...
    @overload
    def from_buffer(self, cdecl: str, python_buffer: Any) -> Any: ...
    @overload
    def from_buffer(self, cdecl: Any) -> Any: ...
    def memmove(self, dest: Any, src: Any, n: int) -> None: ...
    def new_allocator(self, *, should_clear_after_alloc: bool) -> Any: ...
    def offsetof(self, cdecl: str, *fields: str | int) -> int: ...
    def sizeof(self, cdecl: Any) -> int: ...
    def string(self, cdata: Any, maxlen: int = ...) -> bytes: ...
    def typeof(self, cdecl: Any) -> Any: ...
"""
"""The part of cffi.FFI that is used; overloads of `new` for our structs follow."""


def stub(ffi: Any, lib: Any) -> str:
    """Return the text of xtrace/_native.pyi for the compiled module's `ffi` and `lib`."""
    structs = ffi.list_types()[1]
    lines = [STUB_HEAD, *(line for name in structs for line in struct_stub(ffi.typeof(f"struct {name}"), name))]
    lines += [STUB_FFI, *(new_stub(f'Literal["struct {name} *"]', f"struct_{name}") for name in structs)]
    lines.append(new_stub("str", "Any"))
    lines.append("\nclass _Lib:\n")
    values = {name: getattr(lib, name) for name in dir(lib)}
    lines += [f"    {name}: int\n" for name, value in values.items() if isinstance(value, int)]
    functions = {name: ffi.typeof(value) for name, value in values.items() if not isinstance(value, int)}
    lines += [
        f"    def {name}(self{parameters_stub(function, name)}) -> {type_stub(function.result)}: ...\n"
        for name, function in functions.items()
    ]
    return "".join([*lines, "\nffi: _FFI\nlib: _Lib\n"])


def struct_stub(struct: Any, name: str) -> Iterator[str]:
    """Yield a class with the struct's fields, which pointers to it have too."""
    yield f"class struct_{name}:\n"
    yield from (f"    {field}: {type_stub(found.type)}\n" for field, found in struct.fields)
    yield "\n"


def new_stub(cdecl: str, result: str) -> str:
    """Return one overload of ffi.new()."""
    return f"    @overload\n    def new(self, cdecl: {cdecl}, init: Any = ...) -> {result}: ...\n"


def parameters_stub(function: Any, name: str) -> str:
    """Return a function's parameters, named as in the header."""
    declared = re.search(rf"\b{name}\(([^)]*)\)", CDEF)
    if declared is None:
        raise ValueError(f"{name} is declared in no header")
    names = (parameter.split()[-1].lstrip("*") for parameter in declared.group(1).split(","))
    found = [f", {own}: {type_stub(ctype)}" for own, ctype in zip(names, function.args, strict=False)]
    return "".join([*found, ", /"]) if found else ""


def type_stub(ctype: Any) -> str:
    """Return a C type in Python: pointers to our structs have the struct's fields; other pointers are Any."""
    target = ctype.item if ctype.kind == "pointer" else ctype
    if target.kind == "struct":
        return str(target.cname.replace(" ", "_"))
    return {"void": "None", "primitive": "int", "enum": "int"}.get(ctype.kind, "Any")


if __name__ == "__main__":
    from xtrace import _native

    STUB.write_text(stub(_native.ffi, _native.lib))
