"""Which probes are dear, and which would kill."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.kernel import uprobe
from xtrace.kernel.syscall import lib
from xtrace.kernel.uprobe import emulated_at, is_emulated


@pytest.mark.parametrize(
    "code, emulated",
    [
        ("55 4889e5", True),  # push %rbp
        ("4157 4156", True),  # push %r15
        ("90 90 90 90", True),
        ("0f1f4400", True),  # nop
        ("6690 c3c3", True),
        ("e9 000000", True),  # jmp
        ("7405 c3c3", True),  # je
        ("0f84 0000", True),
        ("4883ec18", False),  # sub $0x18, %rsp
        ("f30f1efa", False),  # endbr64
        ("4c8b5424", False),  # mov
        ("4189c8c3", False),  # mov %ecx, %r8d
    ],
)
def test_first_instructions_that_the_kernel_need_not_single_step(code: str, emulated: bool) -> None:
    assert is_emulated(bytes.fromhex(code)) is emulated


@pytest.mark.parametrize(
    "code, at",
    [
        ("55 4889e5", 0),
        ("f30f1efa 55 48", 4),
        ("48b8efbefecab1580000 55 4889e5", 10),
        ("f30f1efa 48b8efbefecab1580000 4157", 14),
        ("4883ec10 4151", None),  # the stack is another one after it
        ("f30f1efa 4883ec10", None),
        ("48b9efbefecab1580000 55", None),  # %rcx has an argument
        ("f30f1efa", None),
        ("", None),
    ],
)
def test_a_probe_goes_where_the_kernel_need_not_single_step(code: str, at: int | None) -> None:
    assert emulated_at(bytes.fromhex(code)) == at


@pytest.fixture
def child(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """A kernel on which the confined child can be tried: the function at which the probe is is one of the C library."""
    probed = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value or 0
    kernel.answer("xt_filtered_call_address", lambda: probed)
    monkeypatch.setattr(uprobe, "has_multi", lambda: True)
    monkeypatch.setattr(uprobe, "attach_multi", lambda *_, at_return: nullcontext())
    uprobe.has_returns.cache_clear()
    yield kernel
    uprobe.has_returns.cache_clear()


SIGILL, SIGSYS = 4, 31


@pytest.mark.parametrize(
    "status, expected",
    [(0, True), (SIGSYS, False), (SIGILL, False), (lib.XT_NO_FILTER, True), (-errno.EPERM, True)],
)
def test_return_probes_are_left_out_where_the_confined_child_is_killed(
    child: FakeKernel, status: int, expected: bool
) -> None:
    child.answer("xt_filtered_child", lambda: status)
    assert uprobe.has_returns() is expected


def test_what_cannot_be_probed_is_not_tried(child: FakeKernel) -> None:
    child.answer("xt_prog_load", lambda *_: -errno.EPERM)
    child.answer("xt_filtered_child", lambda: pytest.fail("tried"))
    assert uprobe.has_returns()


def test_return_probes_can_be_switched_off(child: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACE_FEATURES_OFF", "uretprobe")
    child.answer("xt_filtered_child", lambda: pytest.fail("tried"))
    assert not uprobe.has_returns()
