"""Find out whether a server takes remote write 2.0, and send it 1.0 if not.

https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ (Required Written Response Headers; Unsupported Request
Content): a receiver that knows 2.0 says how much it has written, in headers. Others answer 415 or 400, or read nothing
of the request and accept it.

The first request of 2.0 has no samples, so that none is stored twice where a proxy drops the headers. It is sent again
when a server that took 2.0 answers 400: either it rejects the samples, or one that does not know 2.0 is in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from xtrace.sinks.metrics.remote_write import HEADERS_1, HEADERS_2, RemoteWrite, samples_in
from xtrace.sinks.push.batch import Outcome, Transport

log = logging.getLogger(__name__)


class Negotiating:
    """A Transport for remote write."""

    def __init__(self, transport: Transport, encoding: RemoteWrite) -> None:
        self.shown, self.is_known = transport.shown, transport.is_known
        self._transport = transport
        self._encoding = encoding
        self._takes_2: bool | None = None
        """None until the server has shown it"""
        self._has_reconnected = False
        """whether a request for the current body was the first of a connection"""

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body, in the version that the server takes."""
        if headers != HEADERS_2:
            return self._transport.send(body, headers)
        self._has_reconnected = False
        outcome = self._negotiated(body)
        return replace(outcome, reconnected=self._has_reconnected)

    def _negotiated(self, body: bytes) -> Outcome:
        if self._takes_2 is None:
            asked = self._ask()
            if asked.retry:
                return asked
        if self._takes_2:
            outcome = self._post(body, HEADERS_2)
            if outcome.status == HTTPStatus.BAD_REQUEST and outcome.written is None:
                asked = self._ask()  # the request may be bad, or the server another
                if asked.retry:
                    return asked
            elif self._is_replaced(outcome):
                self._settle(takes_2=False)
            if self._takes_2:
                return self._complete(body, outcome)
        return self._post(self._encoding.as_version_1(body), HEADERS_1)

    def _post(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        outcome = self._transport.send(body, headers)
        self._has_reconnected = self._has_reconnected or outcome.reconnected
        return outcome

    def _ask(self) -> Outcome:
        """Ask the server what it takes; unknown if it should be asked again (`retry`)."""
        self._takes_2 = None
        asked = self._post(self._encoding.empty_version_2(), HEADERS_2)
        if not asked.retry:
            self._settle(takes_2=asked.delivered and asked.written is not None)
        return replace(asked, unanswered=False)

    def _settle(self, *, takes_2: bool) -> None:
        self._takes_2 = takes_2
        if not takes_2:
            log.debug("push to %s: by remote write 1.0: the server does not take 2.0", self.shown)
            self._encoding.fall_back()

    def _is_replaced(self, outcome: Outcome) -> bool:
        """Return whether an answer is that of a server that does not know 2.0, in place of one that did."""
        return outcome.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE or (outcome.delivered and outcome.written is None)

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
