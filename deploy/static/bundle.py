"""The Python part of the executable: the closure of imported modules, built-in modules, package data.

Written as `bundle.c` (tables), `bytes.S` (contents) and `bundle.h`, which main.c includes.
"""

from __future__ import annotations

import _imp
import marshal
import re
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

EXCLUDED = """
    _aix_support _asyncio _bootsubprocess _bz2 _ctypes _curses _dbm _decimal _elementtree _gdbm _lzma _multiprocessing
    _osx_support _posixshmem _posixsubprocess _pydecimal _pyio _pyrepl _sqlite3 _tkinter _uuid asyncio bdb bz2 cmd code
    codeop concurrent ctypes curses decimal distutils doctest getpass lzma multiprocessing nturl2path optparse
    pdb pip pprint pydoc pydoc_data pyexpat readline rlcompleter runpy setuptools shelve spwd sqlite3 subprocess syslog
    test tkinter tty unittest webbrowser xml xmlrpc xxsubtype

    OpenSSL brotli brotlicffi compression cryptography h2 js pyodide socks zstandard
    urllib3.contrib.emscripten urllib3.contrib.pyopenssl urllib3.contrib.socks
"""
"""Modules of imports that never run here: other systems, interactive use, tests, subprocesses, other backends."""

DYNAMIC = """
    encodings.aliases encodings.ascii encodings.idna encodings.latin_1 encodings.punycode encodings.unicode_escape
    encodings.utf_8 encodings.utf_8_sig

    dataclasses datetime enum json uuid zoneinfo
"""
"""Modules imported without an import statement: by codec name, by orjson."""


BUILT_HERE = ("_bundle", "_cffi_backend", "orjson.orjson", "xtrace._native")
"""Extensions compiled by build.py; an installed copy of the last three is ignored."""


@dataclass(frozen=True)
class Module:
    """A module to freeze."""

    name: str
    code: bytes
    package: bool


class Closure:
    """All modules imported, directly or not, from `roots`, the modules of `package`. Their imports must exist."""

    def __init__(self, path: Iterable[Path], package: str, roots: Iterable[str]) -> None:
        self._package = package
        finder = ModuleFinder([str(directory) for directory in path], excludes=EXCLUDED.split())
        for name in (*roots, *DYNAMIC.split()):
            finder.import_hook(name)
        # a name with a dot is usually an attribute, not a module
        for name in {*(name for name in finder.badmodules if "." not in name), *EXCLUDED.split()}:
            importers = [importer for importer in finder.badmodules.get(name, ()) if within(package, importer)]
            if importers and name not in BUILT_HERE:
                sys.exit(f"static build: {', '.join(importers)} imports {name}, which is excluded or missing")
        self._sources: dict[str, tuple[Path, bool]] = {}
        self._extensions: set[str] = set()
        frozen = _imp._frozen_module_names()  # type: ignore[attr-defined]  # libpython has them already
        module: Any  # ModuleFinder's attributes are not declared
        for name, module in sorted(finder.modules.items()):
            if not module.__file__ or not module.__file__.endswith(".py"):
                self._extensions.add(name)
            elif name not in frozen:
                self._sources[name] = (Path(module.__file__), module.__path__ is not None)

    def python_modules(self) -> list[Module]:
        """Return the modules in Python; those outside the package without docstrings and assertions."""
        found = []
        for name, (source, package) in self._sources.items():
            code = compiled(source, name, package, 0 if within(self._package, name) else 2)
            found.append(Module(name, code, package))
        return found

    def extensions(self) -> set[str]:
        """Return the modules in C: the interpreter's, and shared libraries of a usual installation."""
        return self._extensions


def within(package: str, name: str) -> bool:
    """Return whether a module belongs to a package."""
    return name.partition(".")[0] == package


def compiled(source: Path, name: str, package: bool, optimize: int) -> bytes:
    """Return the module's marshalled code, with a file name derived from the module, not a local path."""
    where = name.replace(".", "/") + ("/__init__.py" if package else ".py")
    code: types.CodeType = compile(source.read_bytes(), where, "exec", dont_inherit=True, optimize=optimize)
    return marshal.dumps(code)


def package_data(root: Path, package: str) -> dict[str, bytes]:
    """Return all files of the installed package except code, by path as for PEP 302's get_data()."""
    code = (".py", ".so", ".pyi", ".typed", ".pyc")
    files = sorted(path for path in (root / package).rglob("*") if path.is_file() and path.suffix not in code)
    return {str(path.relative_to(root)): path.read_bytes() for path in files if path.name != "py.typed"}


def builtins_of(config: Path) -> dict[str, str]:
    """Return the interpreter's built-in modules and their init functions from its `config.c`."""
    excluded = EXCLUDED.split()
    entries = re.findall(r'^    \{"(\w+)", (\w+)\},$', config.read_text(), re.MULTILINE)
    return {name: init for name, init in entries if name not in excluded}


class Blob:
    """Concatenated bytes, included by the assembler."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> str:
        """Append `data`, aligned to 16 bytes; return its address as a C expression."""
        where = f"bundle_bytes + {self._size}"
        padding = -len(data) % 16
        self._parts += [data, bytes(padding)]
        self._size += len(data) + padding
        return where

    def content(self) -> bytes:
        """Return all bytes."""
        return b"".join(self._parts)


HEADER = """\
#pragma once
#include <Python.h>

struct bundle_data {
	const char *path;
	const unsigned char *bytes;
	Py_ssize_t size;
};

extern const struct bundle_data bundle_data[];
extern const struct _frozen bundle_modules[];
"""

ASSEMBLY = """\
	.section .bundle, "a", @progbits
	.balign 16
	.globl bundle_bytes
bundle_bytes:
	.incbin "bundle.bin"
	.byte 0
	.section .note.GNU-stack,"",@progbits
"""


def tables(blob: Blob, modules: list[Module], data: dict[str, bytes], builtins: dict[str, str]) -> str:
    """Return `bundle.c`. The interpreter finds the table of built-in modules by its name."""
    lines = ['#include "bundle.h"', "extern const unsigned char bundle_bytes[];"]
    lines += [f"extern PyObject *{init}(void);" for init in sorted({*builtins.values()} - {"NULL"})]
    lines.append("struct _inittab _PyImport_Inittab[] = {")
    lines += [f'\t{{"{name}", {init}}},' for name, init in builtins.items()]
    lines += ["\t{NULL}};", "const struct _frozen bundle_modules[] = {"]
    for module in modules:
        where = f".code = {blob.add(module.code)}, .size = {len(module.code)}, .is_package = {int(module.package)}"
        lines.append(f'\t{{.name = "{module.name}", {where}}},')
    lines += ["\t{NULL}};", "const struct bundle_data bundle_data[] = {"]
    lines += [f'\t{{"{path}", {blob.add(content)}, {len(content)}}},' for path, content in data.items()]
    return "\n".join([*lines, "\t{NULL}};", ""])


def write(directory: Path, modules: list[Module], data: dict[str, bytes], builtins: dict[str, str]) -> None:
    """Write the C and assembler files for gcc."""
    blob = Blob()
    (directory / "bundle.c").write_text(tables(blob, modules, data, builtins))
    (directory / "bundle.bin").write_bytes(blob.content())
    (directory / "bytes.S").write_text(ASSEMBLY)
    (directory / "bundle.h").write_text(HEADER)
