"""What drivers say by ioctl(SIOCETHTOOL), with a played kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.kernel.ethtool import takes_vlan_tags_off

ALL_LEGACY_FLAGS = 0x1801_8180
"""LRO, NTUPLE, RXHASH, TXVLAN, RXVLAN of enum ethtool_flags"""


@pytest.mark.parametrize("flags, taken_off", [(0, False), (0x80, False), (0x100, True), (ALL_LEGACY_FLAGS, True)])
def test_flag_tells_whether_tags_are_taken_off(kernel: FakeKernel, flags: int, taken_off: bool) -> None:
    asked = []

    def driver(interface: bytes, value: Any) -> int:
        asked.append((interface, value.cmd))
        value.data = flags
        return 0

    kernel.answer("xt_ethtool", driver)
    assert takes_vlan_tags_off("eth0") is taken_off
    assert asked == [(b"eth0", 0x25)]


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENODEV, errno.EPERM])
def test_interface_that_does_not_say_is_unknown(kernel: FakeKernel, error: int) -> None:
    kernel.answer("xt_ethtool", -error)
    assert takes_vlan_tags_off("eth0") is None
