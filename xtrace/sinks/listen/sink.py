"""The sink of --listen: publishes each interval to the pages of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from xtrace.model.flow import FlowSnapshot
from xtrace.model.snapshot import Snapshot
from xtrace.sinks import Run
from xtrace.sinks.identity import Identity
from xtrace.sinks.listen.endpoint import Endpoint
from xtrace.sinks.listen.pages import Pages
from xtrace.sinks.listen.passwords import Passwords
from xtrace.sinks.listen.server import Server
from xtrace.sinks.metrics.latest import Latest
from xtrace.sinks.metrics.sample import Interval, Metric, Sample
from xtrace.sinks.registry import Totals
from xtrace.sinks.renewed import Renewed

if TYPE_CHECKING:
    from xtrace.sinks.listen.web_config import WebConfig


class Scraped:
    """The Outlet: keeps the last values of all series for scrapes."""

    def __init__(self, latest: Latest, server: Server) -> None:
        self._latest = latest
        self._server = server

    def add(self, samples: Sequence[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Keep samples of one interval."""
        self._latest.add(samples, described, interval)

    def flush(self, interval: Interval) -> None:
        """Publish the tick's samples."""
        self._latest.publish()

    def own(self) -> Iterable[Sample]:
        """Return what the server has done."""
        served = self._server.served
        values = {
            "xtrace_catch_listen_requests_total": served.requests,
            "xtrace_catch_listen_refused_total": served.refused,
        }
        yield Sample((), values)


class Listen:
    """The Sink: publishes flows and health. Owns the server."""

    def __init__(self, endpoint: Endpoint, identity: Identity, access: Renewed[WebConfig] | None = None) -> None:
        """`access`: TLS and users, looked up for each connection and request; None: in plain text, for everybody."""
        latest = Latest()
        self._pages = Pages(identity, latest)
        self._endpoint = endpoint
        if access is None:
            self._server = Server(endpoint.socket, self._pages.answer)
        else:
            from xtrace.sinks.listen.tls_connection import connection  # with the module ssl

            gate = Passwords(lambda: access.current().users, self._pages.answer)
            self._server = Server(endpoint.socket, gate.answer, partial(connection, lambda: access.current().tls))
        self.outlet = Scraped(latest, self._server)
        """it must be given all samples of a tick before flush()"""

    def start(self, run: Run) -> None:
        """Note the run's interval and modes."""
        self._pages.begin(run.interval_s, FlowSnapshot.mode in run.modes)

    def write(self, snapshot: Snapshot) -> None:
        """Keep the interval's flows."""
        if isinstance(snapshot, FlowSnapshot):
            self._pages.publish_flows(snapshot)

    def flush(self) -> None:
        """Note that the tick is complete."""
        self._pages.tick()

    def end(self, totals: Totals) -> None:
        """Do nothing: the last interval is served until close()."""

    def close(self) -> None:
        """End the server and remove its socket."""
        self._server.close()
        self._endpoint.close()
