"""Reads one sample back now and then: a server may answer that all is well, and store nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

PROBE_AFTER_S, PROBE_EVERY_S = 5.0, 60.0
"""A server shows what it took within seconds; one series read back per minute costs it nothing."""


@dataclass(frozen=True)
class Probe:
    """One sample by which a server shows that it stored a batch."""

    selector: str
    """as in PromQL"""
    at_ms: int


class SelfCheck:
    """Asks for a sample some time after its batch was delivered; says when the answer changes."""

    def __init__(self, ask: Callable[[Probe], bool | None], shown: str) -> None:
        self.stored: bool | None = None
        """the last answer; None before it, or where the server cannot be asked"""
        self._ask, self._shown = ask, shown
        self._wanted: tuple[Probe, float] | None = None
        self._next = 0.0

    def delivered(self, probe: Probe, now: float) -> None:
        """A batch was taken; ask for one that was taken before, if it is time (`now` in s, monotonic)."""
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
                "push to %s: the server takes the samples, but does not show %s at %d: see its log and"
                " its vm_rows_invalid_total, vm_rows_ignored_total and limits on series",
                self._shown,
                wanted.selector,
                wanted.at_ms,
            )
        elif self.stored and before is False:
            log.info("push to %s: the server stores the samples again", self._shown)
