"""What is served: /metrics, /flows, /healthz. The main thread publishes, the server's thread answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from xtrace.model.flow import FlowSnapshot
from xtrace.sinks.identity import Identity
from xtrace.sinks.kinds import JsonOptions
from xtrace.sinks.listen.http import Pieces, Request, Response
from xtrace.sinks.metrics.encoding import gzip
from xtrace.sinks.metrics.latest import Latest, View
from xtrace.sinks.metrics.scrape import OPEN_METRICS, TEXT, Renderer, open_metrics_is_preferred
from xtrace.sinks.registry import KINDS

MOST_STREAMS = 2
"""Clients that read /flows at a time: each keeps the flows of its interval in memory."""
MOST_TOP = 1 << 31
STALE_INTERVALS, STALE_S = 3, 5.0
"""Without a new interval for that long, the run does not work."""

INDEX = """xtrace-catch
/metrics       all series, in the Prometheus text format or OpenMetrics
/flows?top=N   flows of the last interval, as JSON Lines; top: only the N largest of each interface
/healthz       200 while intervals end as they should, else 503"""


class Pages:
    """Answers requests from what was published last."""

    def __init__(self, identity: Identity, latest: Latest, clock: Callable[[], float] = time.monotonic) -> None:
        self._identity = identity
        self._latest = latest
        self._clock = clock
        self._renderer = Renderer(identity.series())
        self._flows: FlowSnapshot | None = None
        self._interval_s = 0.0
        self._last_s = clock()
        """when the last interval ended, or the run began"""
        self._ended = 0
        """intervals"""
        self._has_flows = True
        self._rendered: dict[tuple[bool, bool], tuple[View, bytes]] = {}
        """the last body by format and compression, and the view it shows"""
        self._streams = threading.Semaphore(MOST_STREAMS)

    def begin(self, interval_s: float, has_flows: bool) -> None:
        """Note that the first interval starts; `has_flows`: whether mode xdp runs."""
        self._interval_s, self._has_flows, self._last_s = interval_s, has_flows, self._clock()

    def publish_flows(self, snapshot: FlowSnapshot) -> None:
        """Keep a copy of an interval's flows: the drain's buffers are used again."""
        self._flows = replace(snapshot, flows=snapshot.flows.copy())

    def tick(self) -> None:
        """Note that an interval ended, and all of it was published."""
        self._last_s = self._clock()
        self._ended += 1

    def answer(self, request: Request) -> Response:
        """Return the response to a request."""
        pages = {"/metrics": self._metrics, "/flows": self._flow_lines, "/healthz": self._health, "/": self._index}
        page = pages.get(request.path)
        if page is None:
            return Response.text(HTTPStatus.NOT_FOUND, "not found; / lists what there is")
        return page(request)

    def _index(self, request: Request) -> Response:
        return Response.text(HTTPStatus.OK, INDEX)

    def _metrics(self, request: Request) -> Response:
        as_open_metrics = open_metrics_is_preferred(request.headers.get("accept", ""))
        body = self._body(self._latest.view, as_open_metrics, request.takes_gzip)
        headers = {"Vary": "Accept, Accept-Encoding", **({"Content-Encoding": "gzip"} if request.takes_gzip else {})}
        return Response(HTTPStatus.OK, OPEN_METRICS if as_open_metrics else TEXT, body, headers=headers)

    def _body(self, view: View, as_open_metrics: bool, packed: bool) -> bytes:
        """Return a view's body, rendered and compressed once for all clients."""
        known = self._rendered.get((as_open_metrics, packed))
        if known is not None and known[0] is view:
            return known[1]
        plain = self._body(view, as_open_metrics, False) if packed else self._renderer.body(view, as_open_metrics)
        body = gzip(plain) if packed else plain
        self._rendered[as_open_metrics, packed] = view, body
        return body

    def _flow_lines(self, request: Request) -> Response:
        if not self._has_flows:
            return Response.text(HTTPStatus.NOT_FOUND, "mode xdp does not run, and only it knows flows")
        top = request.query.get("top", "0")
        if not (top.isascii() and top.isdigit()) or len(top) > 10 or int(top) > MOST_TOP:
            return Response.text(HTTPStatus.BAD_REQUEST, "top must be a number of flows, such as /flows?top=10")
        snapshot = self._flows
        if snapshot is None:
            text = f"the first interval has not ended; it takes {self._interval_s:g} s"
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, text, **{"Retry-After": "1"})
        if not self._streams.acquire(blocking=False):
            text = "others are reading the flows; try again"
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, text, **{"Retry-After": "1"})
        pieces = self._lines(snapshot, int(top))
        next(pieces)  # so that close() reaches its end
        return Response(HTTPStatus.OK, "application/x-ndjson", pieces=pieces)

    def _lines(self, snapshot: FlowSnapshot, top: int) -> Pieces:
        try:
            yield b""
            yield from KINDS[snapshot.mode].json(JsonOptions(self._identity.record(), top)).lines(snapshot)
        finally:
            self._streams.release()

    def _health(self, request: Request) -> Response:
        since = self._clock() - self._last_s
        if since > STALE_INTERVALS * self._interval_s + STALE_S:
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, f"no interval has ended for {since:.0f} s")
        return Response.text(HTTPStatus.OK, f"ok; intervals: {self._ended}, the last ended {since:.1f} s ago")
