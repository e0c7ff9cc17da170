"""Mode rdma: traffic, counters and health of the ports of RDMA devices."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from glob import has_magic

from xtrace.errors import KernelError, RdmaError, XtraceError
from xtrace.kernel import infiniband, rdma
from xtrace.messages import Say
from xtrace.model.limits import Limits
from xtrace.model.rdma import PortId, PortRecord, QueuePairRecord, QueuePairs, RdmaSnapshot, Seen
from xtrace.model.rdma_health import judge, rails
from xtrace.model.rdma_limits import LIMITS
from xtrace.model.snapshot import Setup
from xtrace.model.words import Direction
from xtrace.monitors.rdma.blind_spots import BlindSpots
from xtrace.monitors.rdma.gone import GONE, KnownPorts
from xtrace.monitors.rdma.inventory import inventory, matches, netdev_of, open_netlink
from xtrace.monitors.rdma.ports import Found, PortReader
from xtrace.monitors.rdma.queue_pairs import QueuePairWatch
from xtrace.monitors.wall import wall_offset
from xtrace.printable import some_of

log = logging.getLogger(__name__)

NO_RDMA = "no RDMA device found (ls /sys/class/infiniband lists those with a loaded driver)"


@dataclass(frozen=True)
class RdmaOptions:
    """What the user selected."""

    devices: tuple[str, ...] = ()
    """names and globs; empty: every device"""
    interfaces: tuple[str, ...] = ()
    """without `devices`: ports by their netdev"""
    excluded: tuple[str, ...] = ()
    """devices that are never read; names and globs"""
    limits: Limits = field(default_factory=lambda: LIMITS)
    every_queue_pair: bool = False
    queue_pairs: bool = True
    """whether to read them at all"""
    joined: bool = False
    """whether queue_pairs_seen() is called at every tick, for mode xdp's flows"""


def _named(options: RdmaOptions) -> list[str]:
    """Devices that are selected by name, not by a glob, and not excluded."""
    return [name for name in options.devices if not has_magic(name) and not matches(name, options.excluded)]


def list_ports(options: RdmaOptions) -> list[PortRecord]:
    """The selected ports in their current state. Raises RdmaError as the monitor does."""
    monitor = RdmaMonitor(replace(options, queue_pairs=False), log.debug)
    try:
        return [record for record in monitor.first if not record.gone]
    finally:
        monitor.close()


def netdevs_of(devices: Sequence[str]) -> tuple[str, ...]:
    """The network interfaces of these RDMA devices. Raises RdmaError if they have none."""
    found = {record.info.netdev: None for record in list_ports(RdmaOptions(devices=tuple(devices)))}
    names = tuple(name for name in found if name)
    if not names:
        raise RdmaError(f"RDMA device {', '.join(devices)} has no network interface (choose one with -i)")
    return names


def quiet_monitor(interfaces: Sequence[str], excluded: Sequence[str], report: Say) -> RdmaMonitor | None:
    """For mode xdp alone: monitors the RDMA ports of these interfaces, to report traffic that its hooks do not see.

    None if there are no such ports.
    """
    options = RdmaOptions(interfaces=tuple(interfaces), excluded=tuple(excluded), queue_pairs=False)
    try:
        return RdmaMonitor(options, log.debug, report)
    except XtraceError as error:
        log.debug("%s", error)
        return None


class RdmaMonitor:
    """Reads ports at every tick; follows devices that appear and disappear. Needs no privileges."""

    mode = "rdma"
    setup = Setup()

    def __init__(self, options: RdmaOptions, report: Say, report_invisible: Say | None = None) -> None:
        """`report`: appearing and disappearing devices; `report_invisible`, or else it: what mode xdp's hooks miss."""
        self._options = options
        self._report = report
        self._readers: dict[tuple[PortId, int], PortReader] = {}
        self._devices: frozenset[str] = frozenset()
        """those of the last interval"""
        self._netdevs: dict[PortId, str] = {}
        self._seen: dict[tuple[str, Direction], Seen] = {}
        self._lock = threading.Lock()
        self._blind_spots = BlindSpots(report_invisible or report)
        self._last: list[Found] = []
        self._everything: list[Found] = []
        """all ports of the host, including those not selected"""
        self._known = KnownPorts(_named(options))
        self._lost: frozenset[PortId] = frozenset()
        """those already reported as lost"""
        self.ended = False
        with ExitStack() as opening:
            self._netlink = open_netlink()
            if self._netlink is not None:
                opening.callback(self._netlink.close)
            self._start_ns = time.monotonic_ns()
            self.first = self._read(self._first_inventory())
            """the readings that the first interval is measured from"""
            self._queue_pairs = self._watch_queue_pairs(opening) if options.queue_pairs else None
            self._opened = opening.pop_all()

    def _watch_queue_pairs(self, opening: ExitStack) -> QueuePairWatch | None:
        if self._netlink is None:
            return None
        watch = QueuePairWatch(self._takes_device, keep_seen=self._options.joined)
        opening.callback(watch.close)
        return watch

    def _first_inventory(self) -> list[Found]:
        """The selected ports. Raises RdmaError if there are none."""
        try:
            everything = inventory(self._netlink, self._options.excluded)
        except KernelError as error:
            log.debug("%s: using sysfs only", error)
            self._netlink = None
            everything = inventory(None, self._options.excluded)
        if not everything:
            raise RdmaError(NO_RDMA + self._elsewhere())
        available = some_of([f"{found.id} on {netdev_of(found) or 'no interface'}" for found in everything])
        names = [found.id.device for found in everything]
        missing = [wanted for wanted in self._options.devices if not any(matches(name, [wanted]) for name in names)]
        chosen = [found for found in everything if self._takes(found)]
        for wanted in missing if chosen else ():
            log.error("RDMA device %s not found (available: %s)", wanted, available)
        if not chosen and missing:
            raise RdmaError(f"RDMA device {', '.join(missing)} not found (available: {available})")
        if not chosen:
            wanted = ", ".join(self._options.interfaces)
            raise RdmaError(f"no RDMA port has interface {wanted} (available: {available})")
        self._last, self._everything = chosen, everything
        return chosen

    def _elsewhere(self) -> str:
        """A hint if devices may be in another network namespace."""
        try:
            if self._netlink is not None and rdma.netns_mode(self._netlink) == "exclusive":
                return "; RDMA devices are exclusive to a network namespace here: run the tool in the device's"
        except KernelError as error:
            log.debug("%s", error)
        return ""

    def _takes(self, found: Found) -> bool:
        if self._options.devices:
            return matches(found.id.device, self._options.devices)
        return not self._options.interfaces or matches(netdev_of(found) or "", self._options.interfaces)

    def _takes_device(self, name: str) -> bool:
        """Called in the thread that reads queue pairs: uses only what is replaced, never modified."""
        return name in self._devices

    def fileno(self) -> int:
        """Nothing happens between ticks."""
        return -1

    def react(self) -> None:
        """Never called."""

    def queue_pairs_seen(self) -> set[QueuePairRecord]:
        """All queue pairs seen since the last call, if joined with mode xdp."""
        return self._queue_pairs.seen() if self._queue_pairs else set()

    def netdevs(self) -> dict[PortId, str]:
        """The network interface of each port that has one."""
        return dict(self._netdevs)

    @property
    def reported_invisible(self) -> bool:
        """Whether invisible traffic was reported."""
        return self._blind_spots.reported

    def note_seen(self, seen: Mapping[tuple[str, Direction], Seen]) -> None:
        """Note the RoCE traffic that mode xdp's hooks saw in an interval that has ended.

        For the next tick, which may be another thread's and may come after several such intervals.
        """
        with self._lock:
            for where, more in seen.items():
                before = self._seen.get(where, Seen(0, 0))
                self._seen[where] = Seen(before.packets + more.packets, before.bytes + more.bytes)

    def flip(self, last: bool = False) -> None:
        """Nothing: the interval ends when the ports are read."""

    def tick(self) -> RdmaSnapshot:
        """End the current interval, start the next."""
        with self._lock:
            seen, self._seen = self._seen, {}
        chosen = self._inventory()
        self._report_changes(chosen)
        records = tuple(self._read(chosen))
        now = time.monotonic_ns()
        snapshot = RdmaSnapshot(
            end_ns=now + wall_offset(),
            interval_ns=now - self._start_ns,
            ports=records,
            queue_pairs=self._queue_pairs.latest if self._queue_pairs else QueuePairs(),
            rails=rails(records, self._options.limits),
            blind_spots=self._blind_spots.compare(records, seen),
            every_queue_pair=self._options.every_queue_pair,
        )
        self._start_ns = now
        return snapshot

    def _inventory(self) -> list[Found]:
        """The selected ports now; those of the last interval if the kernel does not answer."""
        try:
            everything = inventory(self._netlink, self._options.excluded)
        except KernelError as error:
            log.debug("%s: using the ports of the last interval", error)
        else:
            self._last = [found for found in everything if self._takes(found)]
            self._everything = everything
        return self._last

    def _report_changes(self, chosen: Sequence[Found]) -> None:
        present = {found.identity for found in chosen}
        for identity in [identity for identity in self._readers if identity not in present]:
            del self._readers[identity]
            self._report(f"{identity[0]}: {GONE}")
        for found in chosen:
            if found.identity not in self._readers and not found.lost:
                self._report(f"{found.id}: RDMA device appeared")

    def _read(self, chosen: Sequence[Found]) -> list[PortRecord]:
        self._devices = frozenset(found.id.device for found in chosen)
        self._report_lost(chosen)
        records = []
        for found in chosen:
            if found.lost:
                records.append(self._judged(self._known.without(found.id, found.lost)))
                continue
            reader = self._readers.get(found.identity)
            if reader is None:
                reader = self._readers[found.identity] = PortReader(found, self._netlink)
            record = judge(reader.read(found), self._options.limits, reader.was_active)
            reader.was_active = reader.was_active or record.info.is_active
            records.append(record)
            self._known.note(found, record.info)
        records += map(self._judged, self._known.gone({found.id for found in chosen}, self._everything))
        records.sort(key=lambda record: (infiniband.natural(record.id.device), record.id.port))
        self._netdevs = {record.id: record.info.netdev for record in records if record.info.netdev and not record.gone}
        return records

    def _judged(self, record: PortRecord) -> PortRecord:
        return judge(record, self._options.limits, was_active=False)

    def _report_lost(self, chosen: Sequence[Found]) -> None:
        for found in chosen:
            if found.lost and found.id not in self._lost:
                self._report(f"{found.id}: {found.lost}")
        self._lost = frozenset(found.id for found in chosen if found.lost)

    def finish(self) -> RdmaSnapshot:
        """End the last interval."""
        snapshot = self.tick()
        self.ended = True
        return snapshot

    def close(self) -> None:
        """Release everything."""
        self.ended = True
        self._opened.close()
