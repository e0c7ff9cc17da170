"""Modes rdma and nccl combined: traffic of the RDMA devices that NCCL processes use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from xtrace.model.limits import Limits
from xtrace.model.nccl import NcclSnapshot, NicTraffic
from xtrace.model.rdma import PortId, RdmaSnapshot
from xtrace.model.rdma_health import rails
from xtrace.model.rdma_limits import LIMITS
from xtrace.monitors import Monitor
from xtrace.monitors.relay import Relay


class Nics(Relay[RdmaSnapshot]):
    """Mode rdma, which keeps its last interval for JoinedNccl, which ticks after it.

    With `users` it returns only the devices that these processes use; `limits` are those of their rails.
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
        """Return the snapshot, restricted to the devices of `users` if given."""
        self._last = snapshot
        if self._users is None:
            return snapshot
        pids = set(self._users())
        own = tuple(record for record in snapshot.queue_pairs.records if record.process.pid in pids)
        devices = {record.id.device for record in own}
        ports = tuple(record for record in snapshot.ports if record.gone or record.id.device in devices)
        return replace(
            snapshot,
            ports=ports,
            queue_pairs=replace(snapshot.queue_pairs, records=own),
            rails=rails(ports, self._limits),
        )

    def traffic_of(self, pid: int, since_ns: int) -> NicTraffic | None:
        """Return the devices on which a process has queue pairs, and their bytes.

        None if no queue pairs were read yet, or those of a device could not be read, or it had none when they were last
        read and that was before `since_ns` (wall clock): it may have some by now.
        """
        if self._last is None or not self._last.queue_pairs.end_ns or self._last.queue_pairs.errors:
            return None
        own = [record for record in self._last.queue_pairs.records if record.process.pid == pid]
        if not own and self._last.queue_pairs.end_ns < since_ns:
            return None
        ports = {record.id for record in own}
        return NicTraffic(
            devices=tuple(sorted({port.device for port in ports})),
            queue_pairs=len(own),
            tx_bytes=self._bytes(ports, "tx_bytes"),
            rx_bytes=self._bytes(ports, "rx_bytes"),
            read_ns=self._last.queue_pairs.end_ns,
        )

    def _bytes(self, ports: set[PortId], name: str) -> int | None:
        """Return the sum over ports; None if a port has no value, or there are no ports."""
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
    """Mode nccl, with each process's RDMA device traffic in the same interval."""

    def __init__(self, calls: Monitor[NcclSnapshot], nics: Nics) -> None:
        """`nics` must tick before this monitor."""
        super().__init__(calls)
        self._nics = nics

    def pass_on(self, snapshot: NcclSnapshot) -> NcclSnapshot:
        """Return the snapshot with NIC traffic, where known."""
        since_ns = snapshot.end_ns - snapshot.interval_ns
        return replace(
            snapshot,
            processes=tuple(
                replace(process, nic=self._nics.traffic_of(process.pid, since_ns)) for process in snapshot.processes
            ),
        )
