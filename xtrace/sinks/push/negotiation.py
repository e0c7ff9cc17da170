"""Find out whether a server takes remote write 2.0, and send it 1.0 if not.

https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ (Required Written Response Headers; Unsupported Request
Content): a receiver that knows 2.0 says how much it has written, in headers. Others answer 415 or 400, or read nothing
of the request and accept it.

The first request of 2.0 has no samples, so that none is stored twice where a proxy drops the headers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from xtrace.sinks.metrics.remote_write import HEADERS_1, HEADERS_2, RemoteWrite, samples_in
from xtrace.sinks.push.batch import Outcome, Transport

log = logging.getLogger(__name__)

UNSUPPORTED = 415


class Negotiating:
    """A Transport for remote write."""

    def __init__(self, transport: Transport, encoding: RemoteWrite) -> None:
        self.shown, self.is_known = transport.shown, transport.is_known
        self._transport = transport
        self._encoding = encoding
        self._takes_2: bool | None = None
        """None until the server has shown it"""

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body, in the version that the server takes."""
        if headers != HEADERS_2:
            return self._transport.send(body, headers)
        reconnected = False
        if self._takes_2 is None:
            asked = self._transport.send(self._encoding.empty_version_2(), HEADERS_2)
            if asked.retry:
                return replace(asked, unanswered=False)
            reconnected = asked.reconnected
            self._settle(takes_2=asked.delivered and asked.written is not None)
        if self._takes_2:
            outcome = self._transport.send(body, headers)
            reconnected = reconnected or outcome.reconnected
            if not self._is_replaced(outcome):
                return replace(self._complete(body, outcome), reconnected=reconnected)
            self._settle(takes_2=False)
        outcome = self._transport.send(self._encoding.as_version_1(body), HEADERS_1)
        return replace(outcome, reconnected=reconnected or outcome.reconnected)

    def _settle(self, *, takes_2: bool) -> None:
        self._takes_2 = takes_2
        if not takes_2:
            log.debug("push to %s: by remote write 1.0: the server does not take 2.0", self.shown)
            self._encoding.fall_back()

    def _is_replaced(self, outcome: Outcome) -> bool:
        """Return whether an answer is that of a server that does not know 2.0, in place of one that did."""
        return outcome.status == UNSUPPORTED or (outcome.delivered and outcome.written is None)

    def _complete(self, body: bytes, outcome: Outcome) -> Outcome:
        """Return the outcome with the number of samples that were not written, if the server says it."""
        if outcome.written is None or outcome.retry:
            return outcome
        return replace(outcome, rejected=max(0, samples_in(body) - outcome.written))

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        """As Transport.times()."""
        return self._transport.times(selector, start_ms, end_ms)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
