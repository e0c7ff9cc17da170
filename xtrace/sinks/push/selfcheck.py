"""Read one sample back now and then: a server may acknowledge samples without storing them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

VISIBLE_AFTER_S = 5.0
"""VictoriaMetrics shows samples within 2 s, unless it is busy."""
PROBE_EVERY_S = 60.0
"""One series per minute is a negligible load."""

LATEST_AT_END_MS = 60_000
"""How much later a sample may be that shows at the end that the first one was stored."""

Times = Callable[[str, int, int], "set[int] | None"]
"""As Transport.times(): selector, start and end in ms."""


@dataclass(frozen=True)
class Probe:
    """A sample whose presence shows that a batch was stored."""

    selector: str
    """PromQL selectors, one a line: the server knows the sample by one of them"""
    at_ms: int


class SelfCheck:
    """Queries a sample some time after its delivery; logs when the answer changes."""

    def __init__(self, times: Times, shown: str) -> None:
        self.stored: bool | None = None
        """the last answer; None before the first, or if the server cannot be queried"""
        self._times, self._shown = times, shown
        self._is_unknown_reported = False
        self._wanted: tuple[Probe, float] | None = None
        self._next = 0.0

    def forget(self) -> None:
        """Forget the sample to query: the server may have lost it, which others find out (acknowledged.py)."""
        self._wanted = None

    def delivered(self, probe: Probe, now: float) -> None:
        """A batch was delivered; query an earlier one if it is time (`now`: seconds, monotonic)."""
        if self._wanted is None:
            if now >= self._next:
                self._wanted = probe, now
            return
        wanted, since = self._wanted
        if now - since < VISIBLE_AFTER_S:
            return
        self._wanted, self._next = None, now + PROBE_EVERY_S
        # a server that keeps one sample of many (-dedup.minScrapeInterval) keeps a later one
        self._judge(wanted, self._times(wanted.selector, wanted.at_ms, probe.at_ms))

    def ends(self, now: float) -> bool:
        """The run ends (`now`): query its only sample if none was; return whether it may still become visible."""
        if self._wanted is None or self.stored is not None:
            return False
        wanted, since = self._wanted
        found = self._times(wanted.selector, wanted.at_ms, wanted.at_ms + LATEST_AT_END_MS)
        if found is not None and not found and now - since < VISIBLE_AFTER_S:
            return True
        self._wanted = None
        self._judge(wanted, found)
        return False

    def _judge(self, wanted: Probe, found: set[int] | None) -> None:
        before, self.stored = self.stored, None if found is None else bool(found)
        if found is None and not self._is_unknown_reported:
            self._is_unknown_reported = True
            log.info("push to %s: cannot check that samples are stored: no /api/v1/export found there", self._shown)
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
