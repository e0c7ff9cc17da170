"""The base of panes with few entries: sorted and filtered anew each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from xtrace.sinks.live.pane import View

Entry = TypeVar("Entry")


class Listed(Generic[Entry]):
    """Keeps the entries of the last interval."""

    sorting: Mapping[str, Callable[[Any], Any]]
    """keys of sorting by the names of orders, in which the largest come first"""

    def __init__(self) -> None:
        self.listed: Sequence[Entry] = ()
        self.orders = tuple(self.sorting)

    def freeze(self) -> None:
        """Nothing: the entries stay until they are replaced."""

    def size(self) -> int:
        """Return the number of entries without a filter."""
        return len(self.listed)

    def entries(self, view: View, order: str) -> Sequence[Entry]:
        """Return the entries that match, in order."""
        matching = [entry for entry in self.listed if self.matches(entry, view)]
        return sorted(matching, key=self.sorting[order], reverse=True)

    def matches(self, entry: Entry, view: View) -> bool:
        """Return whether an entry is shown."""
        raise NotImplementedError
