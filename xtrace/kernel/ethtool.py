"""Settings and statistics of network drivers, by ioctl(SIOCETHTOOL) (uapi/linux/ethtool.h)."""

from __future__ import annotations

import os
from errno import E2BIG, EFAULT

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

_VALUE = abi.layout("struct xt_ethtool_value", "cmd", "data")
_COUNT = abi.layout("struct xt_ethtool_sset_info", "cmd", "reserved", "sset_mask", "data")
_STRINGS = abi.layout("struct xt_ethtool_gstrings", "cmd", "string_set", "len")  # then names
_STATS = abi.layout("struct xt_ethtool_stats", "cmd", "n_stats")  # then u64 values

MOST_STATISTICS = 1 << 17
"""More are taken for an error: the largest drivers have some ten thousand (queues x counters)."""


def takes_vlan_tags_off(name: str) -> bool | None:
    """Whether the interface strips VLAN tags before XDP (rxvlan offload); None if the driver does not report it."""
    value = bytearray(_VALUE.pack(ETHTOOL_GFLAGS, 0))
    try:
        _ask("ETHTOOL_GFLAGS", name, value)
    except KernelError:
        return None
    return bool(_VALUE.unpack(value)[1] & ETH_FLAG_RXVLAN)


def statistics_names(interface: str) -> list[str] | None:
    """The names of the driver's own statistics, in the order of statistics(). Raises KernelError.

    None if their number changed during the call: try again.
    """
    count = _statistics_count(interface)
    names = bytearray(_STRINGS.size + count * ETH_GSTRING_LEN)
    _STRINGS.pack_into(names, 0, ETHTOOL_GSTRINGS, ETH_SS_STATS, count)
    if count and (not _fits("ETHTOOL_GSTRINGS", interface, names) or _STRINGS.unpack_from(names)[2] != count):
        return None
    ends = range(_STRINGS.size, len(names), ETH_GSTRING_LEN)
    return [names[start : start + ETH_GSTRING_LEN].split(b"\0")[0].decode("utf-8", "replace") for start in ends]


def statistics(interface: str, count: int) -> list[int] | None:
    """The values of the driver's `count` statistics; None if their number has changed. Raises KernelError."""
    if _statistics_count(interface) != count:
        return None
    values = bytearray(_STATS.size + count * 8)
    _STATS.pack_into(values, 0, ETHTOOL_GSTATS, count)
    if not _fits("ETHTOOL_GSTATS", interface, values) or _STATS.unpack_from(values)[1] != count:
        return None
    return list(memoryview(values)[_STATS.size :].cast("Q"))


def _statistics_count(interface: str) -> int:
    """How many statistics there are now. Raises KernelError, E2BIG for an implausible number."""
    request = bytearray(_COUNT.pack(ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS, 0))
    _ask("ETHTOOL_GSSET_INFO", interface, request)
    _, _, known, count = _COUNT.unpack(request)
    if known and count > MOST_STATISTICS:
        raise KernelError(f"ETHTOOL_GSSET_INFO({interface})", E2BIG, f"{count} statistics")
    return count if known else 0


def _fits(command: str, interface: str, request: bytearray) -> bool:
    """Send a request; False if the answer did not fit, because queues and their counters were added in between."""
    try:
        _ask(command, interface, request)
    except KernelError as error:
        if error.errno == EFAULT:
            return False
        raise
    return True


def _ask(command: str, interface: str, request: bytearray) -> None:
    """The shim writes nothing beyond `request`: a longer answer is EFAULT."""
    buffer = ffi.from_buffer(request)
    call(f"{command}({interface})", syscall.lib.xt_ethtool, os.fsencode(interface), buffer, len(request))
