"""Reads queue pairs in a separate thread: drivers may take seconds to answer, and ticks must not wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from xtrace.errors import KernelError
from xtrace.kernel import rdma
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.proc import owner_of
from xtrace.model.rdma import PortId, Process, QueuePairRecord, QueuePairs

log = logging.getLogger(__name__)

ROUND_EVERY_S = 1.0
REST_BY_DURATION = 10
"""Pause after a round, as a multiple of its duration: reading costs firmware commands."""

CLOSE_WITHIN_S = 2.0
"""How long close() waits for a pending answer; the thread does not outlive the process."""

UNKNOWN = Process(None, "")


class QueuePairWatch:
    """Reads all queue pairs round after round; keeps the last round's, and all seen since the last tick."""

    def __init__(self, takes: Callable[[str], bool], *, keep_seen: bool = False) -> None:
        """`takes`: whether to read a device, by name. Raises KernelError without RDMA netlink.

        `keep_seen`: seen() is called at every tick; otherwise the set would grow without bound.
        """
        self._takes = takes
        self._keep_seen = keep_seen
        self._netlink = NetlinkSocket(rdma.NETLINK_RDMA)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._latest = QueuePairs()
        self._since: set[QueuePairRecord] = set()
        self._thread = threading.Thread(target=self._run, name="queue pairs", daemon=True)
        self._thread.start()

    @property
    def latest(self) -> QueuePairs:
        """The queue pairs of the last complete round."""
        with self._lock:
            return self._latest

    def seen(self) -> set[QueuePairRecord]:
        """All queue pairs of the rounds since the last call and of the one before; empty without `keep_seen`."""
        with self._lock:
            seen, self._since = self._since, set(self._latest.records if self._keep_seen else ())
        return seen

    def close(self) -> None:
        """End the thread; one that still waits for a driver is left behind, with its socket."""
        self._stop.set()
        self._thread.join(CLOSE_WITHIN_S)
        if not self._thread.is_alive():
            self._netlink.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                found = self._round()
            except Exception as error:  # else the thread would end, and its last round would be reported forever
                log.debug("queue pairs", exc_info=True)
                found = QueuePairs((), time.time_ns(), (f"{type(error).__name__}: {error}",))
            with self._lock:
                self._latest = found
                if self._keep_seen:
                    self._since.update(found.records)
            self._stop.wait(max(ROUND_EVERY_S, REST_BY_DURATION * (time.monotonic() - begun)))

    def _round(self) -> QueuePairs:
        """Read every device; a failing one does not affect the others."""
        records: list[QueuePairRecord] = []
        errors: list[str] = []
        try:
            devices = [device for device in rdma.devices(self._netlink) if self._takes(device.name)]
        except KernelError as error:
            return QueuePairs((), time.time_ns(), (str(error),))
        for device in devices:
            if self._stop.is_set():
                break
            try:
                records += self._of(device)
            except KernelError as error:
                errors.append(str(error))
        return QueuePairs(tuple(records), time.time_ns(), tuple(errors))

    def _of(self, device: rdma.RdmaDevice) -> Iterator[QueuePairRecord]:
        addresses = self._remote_addresses(device)
        owners: dict[int, Process] = {}
        for pair in rdma.queue_pairs(self._netlink, device):
            yield QueuePairRecord(
                id=PortId(device.name, pair.port or (1 if device.ports == 1 else 0)),
                number=pair.number,
                type=pair.type,
                state=pair.state,
                remote=pair.remote,
                process=_process(pair, owners),
                remote_address=addresses.get(pair.number),
            )

    def _remote_addresses(self, device: rdma.RdmaDevice) -> dict[int, str]:
        """The remote address of each queue pair that RDMA-CM connected."""
        try:
            found = rdma.connections(self._netlink, device)
        except KernelError as error:
            log.debug("%s", error)
            return {}
        return {connection.queue_pair: connection.destination for connection in found}


def _process(pair: rdma.QueuePair, known: dict[int, Process]) -> Process:
    """The owner: a process; a kernel module in brackets, as ps shows kernel threads; or unknown."""
    if pair.kernel is not None:
        return Process(None, f"[{pair.kernel}]")
    if pair.pid is None:
        return UNKNOWN
    owner = known.get(pair.pid)
    if owner is None:
        found = owner_of(pair.pid)
        owner = known[pair.pid] = Process(*found) if found else UNKNOWN
    return owner
