"""Who sends: what every record and every series says about this host and this run."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from xtrace.errors import XtraceError
from xtrace.kernel import routes
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.sinks.render import valid_unicode

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Constant for a run. What is None is not known or not set, and is left out."""

    host: str
    host_ip: str | None = None
    collect_agg: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    """of --label: names and values"""

    def record(self) -> dict[str, object]:
        """The fields of a JSON record; the user's labels have an object of their own, so that no field can clash."""
        labels = {name: valid_unicode(value) for name, value in self.labels}
        return {**dict(self._own()), **({"labels": labels} if labels else {})}

    def series(self) -> tuple[tuple[str, str], ...]:
        """The labels of a series, whose names differ (xtrace.options.labels.RESERVED_LABELS)."""
        return (*self._own(), *((name, valid_unicode(value)) for name, value in self.labels))

    def _own(self) -> tuple[tuple[str, str], ...]:
        known = (("host", self.host), ("host_ip", self.host_ip), ("collect_agg", self.collect_agg))
        return tuple((name, valid_unicode(value)) for name, value in known if value)


def source_address() -> str | None:
    """The source address of the default route; None where there is none, or the kernel does not tell."""
    try:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            route = routes.default_route(netlink)
    except XtraceError as error:
        log.debug("host_ip is left out: %s", error)
        return None
    return route.source if route else None
