"""Mode xdp and the TCP connections that its programs follow combined: the names of their interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from xtrace.model.tcp_path import NOTHING_MISSED, PathSnapshot, PathSums
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay


class HasSlots(Protocol):
    """Mode xdp."""

    def names(self) -> Mapping[tuple[int, int], str]:
        """Return the names of the interfaces that were monitored in this interval, by slot and ifindex."""


class NamedPaths(Relay[PathSnapshot]):
    """The connections with the names of their interfaces instead of slots."""

    def __init__(self, source: Monitor[PathSnapshot], xdp: HasSlots) -> None:
        super().__init__(source)
        self._xdp = xdp
        self._names: dict[tuple[int, int], str] = {}
        self._is_awaited = False
        """the reading that the names are of"""

    def flip(self, last: bool = False) -> None:
        """Note which interfaces there are, before mode xdp lets go of those that are gone.

        A reading that is late began at an earlier flip: its names are those of then, and of interfaces that came since,
        which may have the slot of one that is gone.
        """
        self._names = {**self._xdp.names(), **(self._names if self._is_awaited else {})}
        self._is_awaited = True
        super().flip(last)

    def pass_on(self, snapshot: PathSnapshot) -> PathSnapshot:
        """Return the snapshot with names, and with sums of each interface.

        Of a connection whose interface is gone only packets are told: a window that was closed then stays so.
        """
        self._is_awaited = False
        names = self._names
        told = (path for path in snapshot.paths if path.place in names or any(way.packets for way in path.ways))
        found = {each.place: each for each in snapshot.sums if each.place in names or each.counted("packets")}
        newest = {slot: (slot, ifindex) for slot, ifindex in sorted(names)}
        missed = {newest.get(slot, (slot, 0)): each for slot, each in snapshot.missed.items()}
        sums = (
            replace(found.get(place, PathSums(*place)), interface=name, missed=missed.get(place, NOTHING_MISSED))
            for place, name in sorted({**dict.fromkeys((*found, *missed), ""), **names}.items())
        )
        paths = tuple(path._replace(interface=names.get(path.place, "")) for path in told)
        return replace(snapshot, paths=paths, sums=tuple(sums))
