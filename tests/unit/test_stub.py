"""xtrace/_native.pyi, by which mypy checks the shim's functions, structs and constants without a build."""

from __future__ import annotations

import build_ffi
from xtrace.kernel.syscall import ffi, lib


def test_stub_is_what_the_headers_make() -> None:
    assert build_ffi.STUB.read_text() == build_ffi.stub(ffi, lib), "csrc/*.h changed: run `make stub`"
