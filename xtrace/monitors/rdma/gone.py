"""Ports that disappeared, or were named and not found. They have a record: a missing one would look healthy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from xtrace.model.rdma import PortId, PortInfo, PortRecord
from xtrace.monitors.rdma.ports import FIRST_PORT, Found

GONE = "the RDMA device is gone"
NOT_FOUND = "not found"
NOT_CHOSEN = "its interface is no longer one selected with -i"


class KnownPorts:
    """Remembers what was last known of each port, and its device's index."""

    def __init__(self, expected: Iterable[str] = ()) -> None:
        """`expected`: names of devices that have a record even if they never appear."""
        self._known: dict[PortId, tuple[PortInfo, int]] = {}
        self._awaited = dict.fromkeys(expected)
        """expected devices that have not been present yet"""

    def note(self, found: Found, info: PortInfo) -> None:
        """Note that a port is present."""
        self._known[found.id] = info, found.identity[1]
        self._awaited.pop(found.id.device, None)

    def gone(self, present: AbstractSet[PortId], everything: Sequence[Found]) -> Iterator[PortRecord]:
        """Records of known and expected ports that are not `present` (monitored). `everything`: all of the host."""
        by_index = {found.device.index: found.id.device for found in everything if found.device}
        elsewhere = {found.id for found in everything}
        for port in [port for port in self._known if port not in present]:
            name = by_index.get(self._known[port][1])
            if port in elsewhere:
                yield self.without(port, NOT_CHOSEN)
            elif name is None:
                yield self.without(port, GONE)
            elif PortId(name, port.port) in present:
                del self._known[port]  # renamed, and still monitored
            else:
                yield self.without(port, f"renamed to {name}")
        devices = {found.id.device for found in everything}
        for device in self._awaited:
            if device not in devices:
                yield replace(self.without(PortId(device, FIRST_PORT), NOT_FOUND), gone=True)

    def without(self, port: PortId, reason: str) -> PortRecord:
        """The record of a port that cannot be read, with the reason."""
        info, _ = self._known.get(port, (PortInfo(), -1))
        info = replace(info, state=None, physical_state=None, rate=None, rate_bps=None, lid=None)
        return PortRecord(port, info, None, unavailable=reason, gone=port in self._known)
