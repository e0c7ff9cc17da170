"""Connections followed by their packets get the names of their interfaces from mode xdp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.unit.make_paths import IFINDEX, path, sent, snapshot, sums
from tests.unit.test_wiring import Source
from xtrace.model.tcp_path import NOTHING_MISSED, Missed, PathSnapshot
from xtrace.monitors.joins.flows_paths import NamedPaths

OTHER = IFINDEX + 1
Names = Mapping[tuple[int, int], str]


class Paths(Source[PathSnapshot]):
    """Packets on an interface in slot 0, and on one in slot 1."""

    def snapshot(self, tick: int) -> PathSnapshot:
        came = sent(packets=1)
        return snapshot(path(came, interface=""), path(came, slot=1, interface=""), of=(sums(packets=1),))


class Xdp:
    def __init__(self, slots: Names) -> None:
        self.slots = slots

    def names(self) -> Names:
        return self.slots


def test_names_are_those_of_the_interval_that_ended() -> None:
    xdp = Xdp({(0, IFINDEX): "eth7", (3, OTHER): "eth9"})
    named = NamedPaths(Paths("tcp_packets"), xdp)
    named.flip()
    xdp.slots = {}  # gone, and drained
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["eth7", ""]
    assert [(each.interface, each.connections) for each in found.sums] == [("eth7", 2), ("eth9", 0)], "idle ones, too"


class Late(Paths):
    """Answers every other time, about two interfaces that had slot 0 one after the other."""

    def snapshot(self, tick: int) -> PathSnapshot | None:  # type: ignore[override]
        came = sent(packets=1)
        both = path(came, interface=""), path(came, ifindex=OTHER, interface="")
        of = sums(packets=1), replace(sums(packets=1), ifindex=OTHER, connections=9)
        return replace(snapshot(*both, of=of), missed={0: Missed(no_room=4)}) if tick % 2 == 0 else None


def test_late_reading_tells_interfaces_apart_that_had_the_same_slot() -> None:
    xdp = Xdp({(0, IFINDEX): "eth7"})
    named = NamedPaths(Late("tcp_packets"), xdp)
    named.flip()
    assert named.tick() is None
    xdp.slots = {(0, OTHER): "eth8"}
    named.flip()
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["eth7", "eth8"]
    told = [(each.interface, each.connections, each.missed) for each in found.sums]
    assert told == [("eth7", 2, NOTHING_MISSED), ("eth8", 9, Missed(no_room=4))]
    named.flip()
    named.tick()
    named.flip()
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["", "eth8"], "the next one has those of its own"


class Closed(Source[PathSnapshot]):
    """Windows that stay closed, and packets that found no room."""

    def snapshot(self, tick: int) -> PathSnapshot:
        closed = path(sent(closed_ticks=5, is_closed=True), interface="")
        made = snapshot(closed, closed._replace(ifindex=OTHER), of=(sums(), replace(sums(), ifindex=OTHER)))
        return replace(made, missed={2: Missed(no_room=4)})


def test_window_that_was_closed_when_its_interface_went_away_is_not_told_any_more() -> None:
    named = NamedPaths(Closed("tcp_packets"), Xdp({(0, OTHER): "eth8"}))
    named.flip()
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["eth8"]
    told = [(each.interface, each.missed.no_room) for each in found.sums]
    assert told == [("eth8", 0), ("", 4)], "what had no room is in no other interface's sum"
