"""The base of the panes of TCP connections: those in trouble, the worst first, with what they carried."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from xtrace.model.snapshot import Snapshot
from xtrace.model.tcp import Ends
from xtrace.model.tcp_health import Judged
from xtrace.model.words import Health
from xtrace.sinks.live.history import History
from xtrace.sinks.live.listed import Listed, Sorting
from xtrace.sinks.live.pane import Detail, Series, View
from xtrace.sinks.render import address
from xtrace.sinks.text.fit import Endpoint

BADNESS, RATE, RETRANSMITTED = "badness", "rate", "retransmitted"


class Known(Judged, Protocol):
    """A connection, by its socket or by its packets."""

    @property
    def ends(self) -> Ends:
        """Addresses and ports."""


C = TypeVar("C", bound=Known)
S = TypeVar("S", bound=Snapshot)


class Troubled(Listed[C], Generic[C, S]):
    """A row per connection that is not well. Its history begins when it is in trouble."""

    graph = ""
    """title of the history"""

    def __init__(self, carried: Callable[[C], int], more: Mapping[str, Sorting]) -> None:
        """`carried`: the bytes of both directions in the interval; `more`: orders besides badness and rate."""
        super().__init__({BADNESS: Sorting(lambda entry: entry.badness), RATE: Sorting(carried), **more})
        self._carried = carried
        self._history: History[Hashable] = History()
        self._snapshot: S | None = None

    def connections(self, snapshot: S) -> Sequence[C]:
        """Return all connections of an interval."""
        raise NotImplementedError

    def key(self, entry: C) -> Any:
        """Return what a connection is known by in later intervals."""
        raise NotImplementedError

    def lines(self, entry: C, snapshot: S) -> Iterator[str]:
        """Yield everything about one connection: its line, whose reasons stand below it, first."""
        raise NotImplementedError

    def note(self, snapshot: S) -> None:
        """Keep what connections carried."""
        self._history.begin(snapshot.interval_ns / 1e9)
        for entry in self.connections(snapshot):
            self._history.add(self.key(entry), self._carried(entry), is_large=entry.health is not Health.OK)

    def take(self, snapshot: S) -> None:
        """Show this interval from now on."""
        self._snapshot = snapshot
        self.listed = [entry for entry in self.connections(snapshot) if entry.health is not Health.OK]

    def matches(self, entry: C, view: View) -> bool:
        """Return whether its ends match."""
        return view.chosen.connection(entry.ends)

    def rate(self, entry: C, view: View) -> str:
        """Return what it carried per second."""
        seconds = (self._snapshot.interval_ns if self._snapshot else 0) / 1e9 or 1.0
        return view.rate(self._carried(entry) / seconds)

    def detail(self, key: Any, view: View) -> Detail:
        """Return what the connection suffers from, and its history."""
        rates = self._history.rates(key)
        series = [Series(self.graph, rates, self._history.span_s(len(rates)))]
        snapshot = self._snapshot
        found = next((each for each in self.connections(snapshot) if self.key(each) == key), None) if snapshot else None
        if found is None or snapshot is None:
            return Detail(["nothing happened on it in this interval"], series)
        return Detail(list(_below(self.lines(found, snapshot))), series)


def _below(lines: Iterator[str]) -> Iterator[str]:
    line, _, reasons = next(lines).partition(": ")
    yield line
    yield from (f"  {reason}" for reason in reasons.split("; "))
    yield from lines


def endpoint(packed: bytes, port: int) -> Endpoint:
    """Return a cell of address and port."""
    text = address(packed)
    return Endpoint(text, f":{port}", brackets=":" in text)
