"""Identity of this host and run: the constant fields of every record and series."""

from __future__ import annotations

import logging
from typing import NamedTuple

from xtrace.errors import XtraceError
from xtrace.kernel import routes
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.sinks.render import valid_unicode

log = logging.getLogger(__name__)


class Identity(NamedTuple):
    """Constant for a run. A field that is None is unknown or unset, and left out."""

    host: str
    host_ip: str | None = None
    collect_agg: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    """names and values of --label"""

    def record(self) -> dict[str, object]:
        """Return the fields of a JSON record; the user's labels are a separate object, so that no name can clash."""
        labels = {name: valid_unicode(value) for name, value in self.labels}
        return {**dict(self._own()), **({"labels": labels} if labels else {})}

    def series(self) -> tuple[tuple[str, str], ...]:
        """Return the labels of a series. Their names differ: --label rejects xtrace.options.labels.RESERVED_LABELS."""
        return (*self._own(), *((name, valid_unicode(value)) for name, value in self.labels))

    def _own(self) -> tuple[tuple[str, str], ...]:
        known = (("host", self.host), ("host_ip", self.host_ip), ("collect_agg", self.collect_agg))
        return tuple((name, valid_unicode(value)) for name, value in known if value)


def source_address() -> str | None:
    """Return the source address of the default route; None if there is none or the kernel does not report it."""
    try:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            route = routes.default_route(netlink)
    except XtraceError as error:
        log.debug("host_ip is left out: %s", error)
        return None
    return route.source if route else None
