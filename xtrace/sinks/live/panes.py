"""The registry of panes. A new pane has a row in PANES, and a file of its own, which is imported when it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from xtrace.model.snapshot import Setup
from xtrace.sinks.live.pane import Pane


class Place(NamedTuple):
    """A pane of the runs that have its mode."""

    mode: str
    make: Callable[[], Pane]
    is_shown: Callable[[Any], bool] = lambda setup: True
    """by the mode's Setup"""


def _flows() -> Pane:
    from xtrace.sinks.live.flows import FlowPane

    return FlowPane()


def _owners() -> Pane:
    from xtrace.sinks.live.owners import OwnerPane

    return OwnerPane()


def _interfaces() -> Pane:
    from xtrace.sinks.live.interfaces import InterfacePane

    return InterfacePane()


def _connections() -> Pane:
    from xtrace.sinks.live.connections import ConnectionPane

    return ConnectionPane()


def _paths() -> Pane:
    from xtrace.sinks.live.paths import PathPane

    return PathPane()


def _ports() -> Pane:
    from xtrace.sinks.live.ports import PortPane

    return PortPane()


def _jobs() -> Pane:
    from xtrace.sinks.live.jobs import JobPane

    return JobPane()


PANES: Sequence[Place] = (
    Place("xdp", _flows),
    Place("xdp", _owners, lambda setup: setup.has_owners),
    Place("xdp", _interfaces),
    Place("tcp", _connections),
    Place("tcp_packets", _paths),
    Place("rdma", _ports),
    Place("nccl", _jobs),
)
"""In the order of their tabs."""


def panes_of(setups: Mapping[str, Setup]) -> list[Pane]:
    """Return the panes of a run with these modes."""
    return [place.make() for place in PANES if place.mode in setups and place.is_shown(setups[place.mode])]
