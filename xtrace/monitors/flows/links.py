"""Look-ups of interfaces and their queues, in which a request that fails is an unknown answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from xtrace.errors import KernelError
from xtrace.kernel import rtnetlink, tc
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.kernel.tc import RootQdisc

log = logging.getLogger(__name__)


class Links:
    """Requests on one netlink socket."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink

    def all(self) -> list[LinkInfo]:
        """Every interface. Raises KernelError."""
        return rtnetlink.links(self._netlink)

    def look_up(self, index: int) -> LinkInfo | None:
        """The interface as it is now; None if it is gone, or unknown."""
        try:
            return rtnetlink.link(self._netlink, index)
        except KernelError as error:
            log.debug("%s", error)
            return None

    def is_missing(self, wanted: str | int) -> bool:
        """Whether no interface has this name, alternative name or index, as far as is known."""
        try:
            return rtnetlink.link(self._netlink, wanted) is None
        except KernelError as error:
            log.debug("%s", error)
            return False

    def queues(self) -> Mapping[int, RootQdisc]:
        """Root qdiscs by interface index; none if unknown."""
        try:
            return tc.root_qdiscs(self._netlink)
        except KernelError as error:
            log.debug("%s", error)
            return {}
