"""Drivers' settings and statistics by ioctl(SIOCETHTOOL), with a fake kernel."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import KernelError
from xtrace.kernel import ethtool
from xtrace.kernel.ethtool import takes_vlan_tags_off
from xtrace.kernel.syscall import ffi

ALL_LEGACY_FLAGS = 0x1801_8180
"""LRO, NTUPLE, RXHASH, TXVLAN, RXVLAN of enum ethtool_flags"""


@pytest.mark.parametrize("flags, stripped", [(0, False), (0x80, False), (0x100, True), (ALL_LEGACY_FLAGS, True)])
def test_flag_shows_whether_tags_are_stripped(kernel: FakeKernel, flags: int, stripped: bool) -> None:
    commands = []

    def driver(interface: bytes, request: Any, length: int) -> int:
        assert length == len(request) == 8
        command, _ = struct.unpack("=II", ffi.buffer(request))
        commands.append((interface, command))
        ffi.buffer(request)[:] = struct.pack("=II", command, flags)
        return 0

    kernel.answer("xt_ethtool", driver)
    assert takes_vlan_tags_off("eth0") is stripped
    assert commands == [(b"eth0", 0x25)]


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENODEV, errno.EPERM])
def test_driver_that_does_not_report_the_flag_is_unknown(kernel: FakeKernel, error: int) -> None:
    kernel.answer("xt_ethtool", -error)
    assert takes_vlan_tags_off("eth0") is None


class Changing:
    """A driver with a different number of statistics at each command: `counts`; the last one stays.

    `polite`: a kernel since 2025, which writes nothing if the number differs from the requested one; an older one
    one writes all it has. The shim ensures that this ends at the buffer.
    """

    def __init__(self, *counts: int, polite: bool = False) -> None:
        self.counts = list(counts)
        self.polite = polite

    def __call__(self, interface: bytes, request: Any, length: int) -> int:
        command, requested = struct.unpack_from("=II", ffi.buffer(request))
        count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        if command == ethtool.ETHTOOL_GSSET_INFO:
            answer = struct.pack("=IIQI", command, 0, 2, count)
        elif command == ethtool.ETHTOOL_GSTRINGS:
            (requested,) = struct.unpack_from("=I", ffi.buffer(request), 8)
            count = 0 if self.polite and requested not in (0, count) else count
            answer = struct.pack("=III", command, 1, count) + b"rx_pause".ljust(32, b"\0") * count
        else:
            count = 0 if self.polite and requested not in (0, count) else count
            answer = struct.pack(f"=II{count}Q", command, count, *range(count))
        if len(answer) > length:
            return -errno.EFAULT
        ffi.buffer(request)[: len(answer)] = answer
        return 0


@pytest.mark.parametrize("polite", [False, True])
@pytest.mark.parametrize("counts", [(3, 5), (3, 2), (3, 2000), (5, 0)])
def test_statistics_that_change_while_they_are_read_are_none(
    kernel: FakeKernel, counts: tuple[int, ...], *, polite: bool
) -> None:
    kernel.answer("xt_ethtool", Changing(*counts, polite=polite))
    assert ethtool.statistics_names("eth0") is None
    kernel.answer("xt_ethtool", Changing(*counts, polite=polite))
    assert ethtool.statistics("eth0", counts[0]) is None


def test_statistics_that_changed_since_their_names_were_read_are_not_read_at_all(kernel: FakeKernel) -> None:
    kernel.answer("xt_ethtool", Changing(5))
    assert ethtool.statistics("eth0", 3) is None
    assert len(kernel.arguments_of("xt_ethtool")) == 1, "the count alone"
    assert ethtool.statistics("eth0", 5) == [0, 1, 2, 3, 4]
    assert ethtool.statistics_names("eth0") == ["rx_pause"] * 5


def test_implausible_number_of_statistics_allocates_nothing(kernel: FakeKernel) -> None:
    kernel.answer("xt_ethtool", Changing((1 << 32) - 1))
    with pytest.raises(KernelError, match=r"ETHTOOL_GSSET_INFO\(eth0\): E2BIG .*4294967295 statistics"):
        ethtool.statistics_names("eth0")
