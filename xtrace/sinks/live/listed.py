"""The base of panes with few entries: sorted and filtered anew each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from xtrace.sinks.live.pane import View

Entry = TypeVar("Entry")


class Sorting(NamedTuple):
    """An order of entries."""

    key: Callable[[Any], Any]
    is_descending: bool = True


class Listed(Generic[Entry]):
    """Keeps the entries of the last interval."""

    def __init__(self, sorting: Mapping[str, Sorting]) -> None:
        """`sorting`: by the names of orders."""
        self.listed: Sequence[Entry] = ()
        self.orders = tuple(sorting)
        self._sorting = sorting

    def freeze(self) -> None:
        """Nothing: the entries stay until they are replaced."""

    def size(self) -> int:
        """Return the number of entries without a filter."""
        return len(self.listed)

    def entries(self, view: View, order: str) -> Sequence[Entry]:
        """Return the entries that match, in order."""
        matching = [entry for entry in self.listed if self.matches(entry, view)]
        sorting = self._sorting[order]
        return sorted(matching, key=sorting.key, reverse=sorting.is_descending)

    def matches(self, entry: Entry, view: View) -> bool:
        """Return whether an entry is shown."""
        raise NotImplementedError
