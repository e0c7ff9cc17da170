"""Mode xdp and the TCP connections that its programs follow combined: the names of their interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from xtrace.model.tcp_path import PathSnapshot, PathSums
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay


class HasSlots(Protocol):
    """Mode xdp."""

    def names(self) -> Mapping[int, str]:
        """Return the names of the interfaces that were monitored in this interval, by slot."""


class NamedPaths(Relay[PathSnapshot]):
    """The connections with the names of their interfaces instead of slots."""

    def __init__(self, source: Monitor[PathSnapshot], xdp: HasSlots) -> None:
        super().__init__(source)
        self._xdp = xdp
        self._names: dict[int, str] = {}
        self._is_awaited = False
        """the reading that the names are of"""

    def flip(self, last: bool = False) -> None:
        """Note which interfaces there are, before mode xdp lets go of those that are gone.

        A reading that is late began at an earlier flip: its names are those of then, and of slots taken since.
        """
        self._names = {**self._xdp.names(), **(self._names if self._is_awaited else {})}
        self._is_awaited = True
        super().flip(last)

    def pass_on(self, snapshot: PathSnapshot) -> PathSnapshot:
        """Return the snapshot with names, and with sums of each interface."""
        self._is_awaited = False
        paths = (path._replace(interface=self._names.get(path.slot, "")) for path in snapshot.paths)
        found = {each.slot: each for each in snapshot.sums}
        named = {**dict.fromkeys(found, ""), **self._names}
        sums = (replace(found.get(slot, PathSums(slot)), interface=name) for slot, name in sorted(named.items()))
        return replace(snapshot, paths=tuple(paths), sums=tuple(sums))
