"""Find out whether a server takes remote write 2.0, and send it 1.0 if not.

https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ (Required Written Response Headers; Unsupported Request
Content): a receiver that knows 2.0 says how much it has written, in headers. Others answer 415 or 400, or read nothing
of the request and accept it.
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
        self.shown = transport.shown
        self._transport = transport
        self._encoding = encoding
        self._is_settled = False
        """whether the server has shown which version it takes"""
        self._takes_only_1 = False

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body, in the version that the server takes."""
        if headers != HEADERS_2:
            return self._transport.send(body, headers)
        if self._takes_only_1:  # the body was written before that was known
            return self._transport.send(self._encoding.as_version_1(body), HEADERS_1)
        outcome = self._transport.send(body, headers)
        if outcome.written is not None:
            self._is_settled = True
            return self._complete(body, outcome)
        if not self._is_refused(outcome):
            return outcome
        older = self._transport.send(self._encoding.as_version_1(body), HEADERS_1)
        if older.delivered:
            log.debug("push to %s: by remote write 1.0: the server does not take 2.0", self.shown)
            self._encoding.fall_back()
            self._takes_only_1 = self._is_settled = True
        return replace(older, reconnected=older.reconnected or outcome.reconnected)

    def _is_refused(self, outcome: Outcome) -> bool:
        """Return whether the server does not know the version. One that knew it may have been replaced."""
        if outcome.delivered or outcome.status == UNSUPPORTED:
            return True
        return not self._is_settled and outcome.status > 0 and not outcome.retry

    def _complete(self, body: bytes, outcome: Outcome) -> Outcome:
        """Return the outcome with the number of samples that were not written."""
        assert outcome.written is not None
        if outcome.retry:
            return outcome
        return replace(outcome, rejected=max(0, samples_in(body) - outcome.written))

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        """As Transport.times()."""
        return self._transport.times(selector, start_ms, end_ms)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
