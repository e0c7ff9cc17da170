"""Which probes are dear."""

from __future__ import annotations

import pytest

from xtrace.kernel.uprobe import is_emulated


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
