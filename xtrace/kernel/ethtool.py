"""What a network driver says by ioctl(SIOCETHTOOL) (uapi/linux/ethtool.h)."""

from __future__ import annotations

import os

from xtrace.errors import KernelError
from xtrace.kernel.syscall import call, ffi

ETHTOOL_GFLAGS = 0x25
ETH_FLAG_RXVLAN = 1 << 8


def takes_vlan_tags_off(name: str) -> bool | None:
    """Whether the interface's receive side strips VLAN tags before XDP (rxvlan offload); None where it does not say."""
    value = ffi.new("__u32[2]", [ETHTOOL_GFLAGS, 0])  # struct ethtool_value
    try:
        call(f"ETHTOOL_GFLAGS({name})", "xt_ethtool", os.fsencode(name), value)
    except KernelError:
        return None
    return bool(value[1] & ETH_FLAG_RXVLAN)
