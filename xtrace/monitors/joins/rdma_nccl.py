"""Modes rdma and nccl together: what the RDMA devices carried that NCCL's processes use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from xtrace.model.nccl import NcclSnapshot, NicTraffic
from xtrace.model.rdma import PortId, RdmaSnapshot
from xtrace.model.rdma_health import LIMITS, Limits, rails
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay


class Nics(Relay[RdmaSnapshot]):
    """Mode rdma, which remembers its last interval for JoinedNccl, whose tick comes after.

    With `users` it yields only the devices that these processes use; `limits` are those of their rails.
    """

    def __init__(
        self,
        rdma: Monitor[RdmaSnapshot],
        users: Callable[[], Iterable[int]] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__(rdma)
        self._users = users
        self._limits = limits
        self._last: RdmaSnapshot | None = None

    def missed(self) -> None:
        """What NICs carried in this interval is not known."""
        self._last = None

    def pass_on(self, snapshot: RdmaSnapshot) -> RdmaSnapshot:
        """The snapshot, of the users' devices alone where there are users."""
        self._last = snapshot
        if self._users is None:
            return snapshot
        pids = set(self._users())
        own = tuple(record for record in snapshot.queue_pairs.records if record.process.pid in pids)
        devices = {record.id.device for record in own}
        ports = tuple(record for record in snapshot.ports if record.id.device in devices)
        return replace(
            snapshot,
            ports=ports,
            queue_pairs=replace(snapshot.queue_pairs, records=own),
            rails=rails(ports, self._limits),
        )

    def traffic_of(self, pid: int) -> NicTraffic | None:
        """The devices that a process has queue pairs on, and their bytes.

        None where no queue pairs were read yet, or a device could not be asked for them: it may have some there.
        """
        if self._last is None or not self._last.queue_pairs.end_ns or self._last.queue_pairs.errors:
            return None
        own = [record for record in self._last.queue_pairs.records if record.process.pid == pid]
        ports = {record.id for record in own}
        return NicTraffic(
            devices=tuple(sorted({port.device for port in ports})),
            queue_pairs=len(own),
            tx_bytes=self._bytes(ports, "tx_bytes"),
            rx_bytes=self._bytes(ports, "rx_bytes"),
        )

    def _bytes(self, ports: set[PortId], name: str) -> int | None:
        """The sum over ports; None where one does not tell, or there is none."""
        deltas = [record.delta(name) for record in self._last.ports if record.id in ports] if self._last else []
        if not deltas or len(deltas) < len(ports):
            return None
        total = 0
        for delta in deltas:
            if delta is None:
                return None
            total += delta
        return total


class JoinedNccl(Relay[NcclSnapshot]):
    """Mode nccl, whose processes have the traffic of their RDMA devices in the same interval."""

    def __init__(self, calls: Monitor[NcclSnapshot], nics: Nics) -> None:
        """`nics` ticks before this one."""
        super().__init__(calls)
        self._nics = nics

    def pass_on(self, snapshot: NcclSnapshot) -> NcclSnapshot:
        """The snapshot with NIC traffic, where that is known."""
        processes = (replace(process, nic=self._nics.traffic_of(process.pid)) for process in snapshot.processes)
        return replace(snapshot, processes=tuple(processes))
