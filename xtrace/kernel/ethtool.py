"""Driver information by ioctl(SIOCETHTOOL) (uapi/linux/ethtool.h)."""

from __future__ import annotations

import os

from xtrace.errors import KernelError
from xtrace.kernel import abi, syscall
from xtrace.kernel.syscall import call, ffi

ETHTOOL_GFLAGS = 0x25
ETH_FLAG_RXVLAN = 1 << 8

ETHTOOL_GSTRINGS = 0x1B
ETHTOOL_GSTATS = 0x1D
ETHTOOL_GSSET_INFO = 0x37
ETH_SS_STATS = 1
ETH_GSTRING_LEN = 32

_COUNT = abi.layout("struct xt_ethtool_sset_info", "cmd", "reserved", "sset_mask", "data")
_STRINGS = abi.layout("struct xt_ethtool_gstrings", "cmd", "string_set", "len")  # then names
_STATS = abi.layout("struct xt_ethtool_stats", "cmd", "n_stats")  # then u64 values

SPARE = 1024
"""Spare entries: the kernel ignores the buffer's size and writes as many as there are now."""


def takes_vlan_tags_off(name: str) -> bool | None:
    """Return whether the interface strips VLAN tags before XDP (rxvlan offload); None if not reported."""
    value = ffi.new("struct xt_ethtool_value *", {"cmd": ETHTOOL_GFLAGS})
    try:
        call(f"ETHTOOL_GFLAGS({name})", syscall.lib.xt_ethtool, os.fsencode(name), value)
    except KernelError:
        return None
    return bool(value.data & ETH_FLAG_RXVLAN)


def statistics_names(interface: str) -> list[str]:
    """Return the names of the driver's own counters, in the order of statistics(). Raises KernelError."""
    request = bytearray(_COUNT.pack(ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS, 0))
    _ask("ETHTOOL_GSSET_INFO", interface, request)
    _, _, known, count = _COUNT.unpack(request)
    if not known or not count:
        return []
    names = bytearray(_STRINGS.size + (count + SPARE) * ETH_GSTRING_LEN)
    _STRINGS.pack_into(names, 0, ETHTOOL_GSTRINGS, ETH_SS_STATS, count)
    _ask("ETHTOOL_GSTRINGS", interface, names)
    count = min(_STRINGS.unpack_from(names)[2], count + SPARE)
    ends = range(_STRINGS.size, _STRINGS.size + count * ETH_GSTRING_LEN, ETH_GSTRING_LEN)
    return [names[start : start + ETH_GSTRING_LEN].split(b"\0")[0].decode("utf-8", "replace") for start in ends]


def statistics(interface: str, count: int) -> list[int] | None:
    """Return the values of the `count` names; None if their number has changed. Raises KernelError."""
    values = bytearray(_STATS.size + (count + SPARE) * 8)
    _STATS.pack_into(values, 0, ETHTOOL_GSTATS, count)
    _ask("ETHTOOL_GSTATS", interface, values)
    if _STATS.unpack_from(values)[1] != count:
        return None
    return list(memoryview(values)[_STATS.size : _STATS.size + 8 * count].cast("Q"))


def _ask(command: str, interface: str, request: bytearray) -> None:
    call(f"{command}({interface})", syscall.lib.xt_ethtool, os.fsencode(interface), ffi.from_buffer(request))
