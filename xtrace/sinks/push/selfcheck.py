"""Read one sample back now and then: a server may acknowledge samples without storing them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

PROBE_AFTER_S, PROBE_EVERY_S = 5.0, 60.0
"""Samples become visible within seconds; one series per minute is a negligible load."""


@dataclass(frozen=True)
class Probe:
    """A sample whose presence shows that a batch was stored."""

    selector: str
    """a PromQL selector"""
    at_ms: int


class SelfCheck:
    """Queries a sample some time after its delivery; logs when the answer changes."""

    def __init__(self, ask: Callable[[Probe], bool | None], shown: str) -> None:
        self.stored: bool | None = None
        """the last answer; None before the first, or if the server cannot be queried"""
        self._ask, self._shown = ask, shown
        self._wanted: tuple[Probe, float] | None = None
        self._next = 0.0

    def delivered(self, probe: Probe, now: float) -> None:
        """A batch was delivered; query an earlier one if it is time (`now`: seconds, monotonic)."""
        if self._wanted is None:
            if now >= self._next:
                self._wanted = probe, now
            return
        wanted, since = self._wanted
        if now - since < PROBE_AFTER_S:
            return
        self._wanted, self._next = None, now + PROBE_EVERY_S
        before, self.stored = self.stored, self._ask(wanted)
        if self.stored is False and before is not False:
            log.error(
                "push to %s: the server accepts samples but does not return %s at %d (check its log,"
                " vm_rows_invalid_total, vm_rows_ignored_total and its series limits)",
                self._shown,
                wanted.selector,
                wanted.at_ms,
            )
        elif self.stored and before is False:
            log.info("push to %s: the server stores the samples again", self._shown)
