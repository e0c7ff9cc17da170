"""Members of the kernel's structures, found by its own type information."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.kernel.test_btf import types
from xtrace.errors import XtraceError
from xtrace.kernel.elf import patch_constants
from xtrace.kernel.objects import load_object
from xtrace.monitors.tcp.ends import OBJECT, PROGRAMS
from xtrace.monitors.tcp.offsets import NEEDED, OPTIONAL, find_offsets


def test_every_constant_of_the_program_has_a_member_and_no_other() -> None:
    spec = load_object(OBJECT)
    assert set(spec.maps["rodata"].variables) == {*NEEDED, *OPTIONAL}
    patch_constants(spec.maps["rodata"], dict.fromkeys({*NEEDED, *OPTIONAL}, 0xFFFF_FFFF))
    assert set(spec.programs) == set(PROGRAMS)


def test_kernel_without_type_information_is_named(tmp_path: Path) -> None:
    with pytest.raises(XtraceError, match="no type information"):
        find_offsets(tmp_path / "vmlinux")


def test_kernel_without_a_needed_member_is_named(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(types())
    with pytest.raises(XtraceError, match=r"struct tcp_sock has no inet_conn\.icsk_inet\.sk\.__sk_common\.skc_family"):
        find_offsets(tmp_path / "vmlinux")
