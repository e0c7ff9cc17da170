"""Selected interfaces without our program: the reason, and when to try again."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.flow import Unattached
from xtrace.model.words import Absence

FIRST_PAUSE_NS = 2_000_000_000
"""Before a program is attached again that was detached by others: room for them to attach their own."""

LONGEST_PAUSE_NS = 60_000_000_000
"""The pause doubles up to this length while attempts fail or the program is detached again soon."""


@dataclass
class _Entry:
    name: str
    reason: Absence
    detail: str
    was_up: bool
    due_ns: int | None = None
    """when to try again; None: only when the interface goes up or down"""
    has_failed: bool = True


class Absentees:
    """Interfaces that are there and selected but not attached, by index."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._pauses: dict[int, tuple[int, int]] = {}
        """of interfaces detached by others: the last pause, and when it ended"""
        self._returned: list[str] = []

    def may_try(self, link: LinkInfo) -> bool:
        """Whether to attach now: not after a refusal until the interface has gone up or down, or the pause is over."""
        entry = self._entries.get(link.index)
        if entry is None or entry.was_up is not link.is_up:
            return True
        return entry.due_ns is not None and entry.due_ns <= time.monotonic_ns()

    def due(self) -> list[int]:
        """Indexes of the interfaces to try again now."""
        now = time.monotonic_ns()
        return [index for index, entry in self._entries.items() if entry.due_ns is not None and entry.due_ns <= now]

    def refused(self, link: LinkInfo, detail: str) -> bool:
        """Note a failed attempt; whether its reason is a new one."""
        entry = self._entries.get(link.index)
        is_new = entry is None or entry.detail != detail or entry.was_up is not link.is_up
        if entry is not None and entry.reason is Absence.DETACHED:
            self._entries[link.index] = _Entry(link.name, Absence.DETACHED, detail, link.is_up, self._next(link.index))
        else:
            self._entries[link.index] = _Entry(link.name, Absence.REFUSED, detail, link.is_up)
        return is_new

    def has_failed(self, index: int) -> bool:
        """Whether the last attempt to attach failed."""
        entry = self._entries.get(index)
        return entry is not None and entry.has_failed

    def without_slot(self, link: LinkInfo, detail: str) -> bool:
        """Note that no slot was free; slots_released() ends that. Returns whether that is new."""
        entry = self._entries.get(link.index)
        reason = Absence.DETACHED if entry is not None and entry.reason is Absence.DETACHED else Absence.NO_SLOT
        self._entries[link.index] = _Entry(link.name, reason, detail, link.is_up)
        return entry is None or entry.detail != detail

    def detached(self, link: LinkInfo, detail: str) -> float:
        """Note that others detached the program; seconds until the next attempt."""
        due = self._next(link.index)
        self._entries[link.index] = _Entry(link.name, Absence.DETACHED, detail, link.is_up, due, has_failed=False)
        return (due - time.monotonic_ns()) / 1e9

    def attached(self, link: LinkInfo) -> None:
        """Note a successful attempt."""
        entry = self._entries.pop(link.index, None)
        if entry is not None:
            self._returned.append(link.name)

    def gone(self, index: int) -> None:
        """Forget an interface that disappeared."""
        self._entries.pop(index, None)
        self._pauses.pop(index, None)

    def keep(self, present: Collection[int]) -> None:
        """Forget all interfaces but these."""
        for index in (self._entries.keys() | self._pauses.keys()) - set(present):
            self.gone(index)

    def slots_released(self) -> bool:
        """Let those try again that had no slot; whether there are any."""
        waiting = [
            entry
            for entry in self._entries.values()
            if entry.reason is Absence.NO_SLOT or (entry.reason is Absence.DETACHED and entry.due_ns is None)
        ]
        for entry in waiting:
            entry.due_ns = time.monotonic_ns()
        return bool(waiting)

    def listed(self, named: Collection[str]) -> Iterator[Unattached]:
        """All, as records show them; `named`: those that -i names."""
        for entry in self._entries.values():
            yield Unattached(entry.name, entry.reason, entry.detail, entry.name in named)

    def take_returned(self) -> tuple[str, ...]:
        """Names of those attached since the last call."""
        returned, self._returned = tuple(self._returned), []
        return returned

    def _next(self, index: int) -> int:
        """When to try again: the pause doubles, and begins anew once the program has stayed as long as the longest."""
        now = time.monotonic_ns()
        last, ended = self._pauses.get(index, (0, now))
        pause = FIRST_PAUSE_NS if now - ended > LONGEST_PAUSE_NS or not last else min(2 * last, LONGEST_PAUSE_NS)
        self._pauses[index] = (pause, now + pause)
        return now + pause
