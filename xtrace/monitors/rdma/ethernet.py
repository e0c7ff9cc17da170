"""Pause, discard and link counters of the network interface below an RDMA port, if its driver has them."""

from __future__ import annotations

import re
from errno import EOPNOTSUPP

from xtrace.errors import KernelError
from xtrace.kernel import dcb, ethtool
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.monitors.backoff import Backoff

WANTED = re.compile(
    r"pause|pfc|xo(?:ff|n)\b|discards?_(?:phy|prio)|prio\d_discard|link_down_events|(?:crc|symbol)_err\w*_phy"
)
"""Counters that are read, of a driver's hundreds. mlx5: rx_prio3_pause_duration (in microseconds), rx_discards_phy;
bnxt_en: rx_pfc_ena_frames_pri3; ice: rx_priority_3_xoff.nic."""


class EthernetCounters:
    """Reads the counters of a port's interface, which may change. One in another network namespace cannot be read."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._interface: str | None = None
        self._names: list[str] | None = None
        self._has_dcb = True

    def read(self, interface: str | None) -> dict[str, int | str]:
        """Values by the driver's names, or why a value cannot be read. Empty if there is nothing to read."""
        if interface != self._interface:
            self._interface, self._names, self._has_dcb = interface, None, True
        if interface is None:
            return {}
        return {**self._driver(interface), **self._pfc(interface)}

    def _driver(self, interface: str) -> dict[str, int | str]:
        refused = self._backoff.reason("ethtool")
        names = [name for name in self._names or () if WANTED.search(name)]
        if refused or self._names == []:
            return dict.fromkeys(names, refused or "")
        try:
            if self._names is None:
                self._names = ethtool.statistics_names(interface)
            if self._names is None:
                return {}  # the number of queues is changing
            if not any(map(WANTED.search, self._names)):
                self._names = []  # no wanted counter: not read again
                return {}
            values = ethtool.statistics(interface, len(self._names))
        except KernelError as error:
            if self._names is None and error.errno == EOPNOTSUPP:
                self._names = []
                return {}
            return dict.fromkeys(names, self._backoff.failed("ethtool", str(error)))
        self._backoff.succeeded("ethtool")
        if values is None:
            self._names = None  # the number of queues changed: names are read again at the next tick
            return {}
        return {name: value for name, value in zip(self._names, values, strict=True) if WANTED.search(name)}

    def _pfc(self, interface: str) -> dict[str, int | str]:
        """Frames of priority flow control; a driver without DCB is queried once."""
        if not self._has_dcb or self._backoff.reason("dcb"):
            return {}
        try:
            with NetlinkSocket(NETLINK_ROUTE) as socket:
                frames = dcb.pfc_frames(socket, interface)
        except KernelError as error:
            if error.errno == EOPNOTSUPP:
                self._has_dcb = False
            else:
                self._backoff.failed("dcb", str(error))
            return {}
        self._backoff.succeeded("dcb")
        self._has_dcb = bool(frames)
        return dict(frames)
