"""Connections followed by their packets get the names of their interfaces from mode xdp."""

from __future__ import annotations

from collections.abc import Mapping

from tests.unit.make_paths import path, snapshot, sums
from tests.unit.test_wiring import Source
from xtrace.model.tcp_path import PathSnapshot
from xtrace.monitors.joins.flows_paths import NamedPaths


class Paths(Source[PathSnapshot]):
    def snapshot(self, tick: int) -> PathSnapshot:
        return snapshot(path(interface=""), path(slot=1, interface=""), of=(sums(),))


class Xdp:
    slots: Mapping[int, str] = {0: "eth7", 3: "eth9"}

    def names(self) -> Mapping[int, str]:
        return self.slots


def test_names_are_those_of_the_interval_that_ended() -> None:
    xdp = Xdp()
    named = NamedPaths(Paths("tcp_packets"), xdp)
    named.flip()
    xdp.slots = {}  # gone, and drained
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["eth7", ""]
    assert [(each.interface, each.connections) for each in found.sums] == [("eth7", 2), ("eth9", 0)], "idle ones, too"


class Late(Paths):
    """Answers every other time."""

    def snapshot(self, tick: int) -> PathSnapshot | None:  # type: ignore[override]
        return super().snapshot(tick) if tick % 2 == 0 else None


def test_late_reading_has_the_names_of_when_it_began() -> None:
    xdp = Xdp()
    named = NamedPaths(Late("tcp_packets"), xdp)
    xdp.slots = {0: "eth7"}
    named.flip()
    assert named.tick() is None
    xdp.slots = {0: "eth8", 1: "eth9"}  # the slot was used again, and another one taken
    named.flip()
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["eth7", "eth9"]
    named.flip()
    named.tick()
    named.flip()
    found = named.tick()
    assert found is not None
    assert [each.interface for each in found.paths] == ["eth8", "eth9"], "the next one has those of its own"
