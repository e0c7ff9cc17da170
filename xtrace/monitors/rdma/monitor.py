"""Mode rdma: what the ports of RDMA devices carry, and how they suffer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from xtrace.errors import KernelError, RdmaError, XtraceError
from xtrace.kernel import infiniband, rdma
from xtrace.messages import Say
from xtrace.model.rdma import PortId, PortRecord, QueuePairRecord, QueuePairs, RdmaSnapshot, Seen
from xtrace.model.rdma_health import LIMITS, Limits, judge, rails
from xtrace.model.snapshot import Setup
from xtrace.model.words import Direction
from xtrace.monitors.rdma.blind_spots import BlindSpots
from xtrace.monitors.rdma.inventory import inventory, matches, netdev_of, open_netlink
from xtrace.monitors.rdma.ports import Found, PortReader
from xtrace.monitors.rdma.queue_pairs import QueuePairWatch

log = logging.getLogger(__name__)


NO_RDMA = "no RDMA device here: ls /sys/class/infiniband shows those whose driver is loaded"


@dataclass(frozen=True)
class RdmaOptions:
    """What the user asked for."""

    devices: tuple[str, ...] = ()
    """names and globs; empty: every device"""
    interfaces: tuple[str, ...] = ()
    """without `devices`: ports by their netdev"""
    excluded: tuple[str, ...] = ()
    """devices never to be read, names and globs"""
    limits: Limits = field(default_factory=lambda: LIMITS)
    every_queue_pair: bool = False
    queue_pairs: bool = True
    """whether to ask for them at all"""
    joined: bool = False
    """whether queue_pairs_seen() is called at every tick, for mode xdp's rows"""


def list_ports(options: RdmaOptions) -> list[PortRecord]:
    """The ports that were asked for as they stand now. Raises RdmaError as the monitor does."""
    monitor = RdmaMonitor(replace(options, queue_pairs=False), log.debug)
    try:
        return list(monitor.first)
    finally:
        monitor.close()


def netdevs_of(devices: Sequence[str]) -> tuple[str, ...]:
    """The network interfaces of RDMA devices, none where no device is named. Raises RdmaError where there is none."""
    if not devices:
        return ()
    found = {record.info.netdev: None for record in list_ports(RdmaOptions(devices=tuple(devices)))}
    names = tuple(name for name in found if name)
    if not names:
        raise RdmaError(f"RDMA device {', '.join(devices)} has no network interface: choose one with -i")
    return names


def quiet_monitor(interfaces: Sequence[str], excluded: Sequence[str], say: Say) -> RdmaMonitor | None:
    """For mode xdp alone: watches the RDMA ports of these interfaces, to say what is invisible there.

    None where there are no such ports. Nothing is asked of a kernel without RDMA devices: opening the socket would
    make it load RDMA's modules.
    """
    if not infiniband.device_names():
        return None
    options = RdmaOptions(interfaces=tuple(interfaces), excluded=tuple(excluded), queue_pairs=False)
    try:
        return RdmaMonitor(options, log.debug, say)
    except XtraceError as error:
        log.debug("%s", error)
        return None


class RdmaMonitor:
    """Reads ports at every tick; follows devices as they come and go. Needs no privilege."""

    mode = "rdma"
    setup = Setup()

    def __init__(self, options: RdmaOptions, say: Say, say_invisible: Say | None = None) -> None:
        """`say`: devices that come and go; `say_invisible`, else the same: what mode xdp's hooks do not see."""
        self._options = options
        self._say = say
        self._readers: dict[tuple[PortId, int], PortReader] = {}
        self._devices: frozenset[str] = frozenset()
        """those that were read last"""
        self._netdevs: dict[PortId, str] = {}
        self._seen: dict[tuple[str, Direction], Seen] = {}
        self._lock = threading.Lock()
        self._blind_spots = BlindSpots(say_invisible or say)
        self._last: list[Found] = []
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
        """Raises RdmaError where nothing of what was asked for is there."""
        try:
            everything = inventory(self._netlink, self._options.excluded)
        except KernelError as error:
            log.debug("%s: reading sysfs alone", error)
            self._netlink = None
            everything = inventory(None, self._options.excluded)
        if not everything:
            raise RdmaError(NO_RDMA + self._elsewhere())
        there = ", ".join(f"{found.id} ({netdev_of(found) or 'no interface'})" for found in everything)
        names = [found.id.device for found in everything]
        missing = [wanted for wanted in self._options.devices if not any(matches(name, [wanted]) for name in names)]
        chosen = [found for found in everything if self._takes(found)]
        for wanted in missing if chosen else ():
            log.error("RDMA device %s not found: there are %s", wanted, there)
        if not chosen and missing:
            raise RdmaError(f"RDMA device {', '.join(missing)} not found: there are {there}; choose one with -d")
        if not chosen:
            wanted = ", ".join(self._options.interfaces)
            raise RdmaError(f"no RDMA port has interface {wanted}: there are {there}; choose one with -d")
        self._last = chosen
        return chosen

    def _elsewhere(self) -> str:
        """Where devices may be that are not here."""
        try:
            if self._netlink is not None and rdma.netns_mode(self._netlink) == "exclusive":
                return "; each network namespace has its own (RDMA's mode is exclusive): run it in that of the device"
        except KernelError as error:
            log.debug("%s", error)
        return ""

    def _takes(self, found: Found) -> bool:
        if self._options.devices:
            return matches(found.id.device, self._options.devices)
        return not self._options.interfaces or matches(netdev_of(found) or "", self._options.interfaces)

    def _takes_device(self, name: str) -> bool:
        """Called in the thread that asks for queue pairs: from here only what is replaced, never changed."""
        return name in self._devices

    def fileno(self) -> int:
        """Nothing happens between ticks."""
        return -1

    def react(self) -> None:
        """Never called."""

    def queue_pairs_seen(self) -> set[QueuePairRecord]:
        """All queue pairs that were seen since the last call, where mode xdp is joined."""
        return self._queue_pairs.seen() if self._queue_pairs else set()

    def netdevs(self) -> dict[PortId, str]:
        """The network interface of each port that has one."""
        return dict(self._netdevs)

    @property
    def told(self) -> bool:
        """Whether it was said that something is invisible."""
        return self._blind_spots.told

    def note_seen(self, seen: Mapping[tuple[str, Direction], Seen]) -> None:
        """What mode xdp's hooks saw of RoCE in an interval that has ended, by interface and direction.

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
        chosen = self._look_again()
        self._tell_changes(chosen)
        records = tuple(self._read(chosen))
        now = time.monotonic_ns()
        snapshot = RdmaSnapshot(
            end_ns=time.time_ns(),
            interval_ns=now - self._start_ns,
            ports=records,
            queue_pairs=self._queue_pairs.latest if self._queue_pairs else QueuePairs(),
            rails=rails(records, self._options.limits),
            blind_spots=self._blind_spots.compare(records, seen),
            every_queue_pair=self._options.every_queue_pair,
        )
        self._start_ns = now
        return snapshot

    def _look_again(self) -> list[Found]:
        """The ports there are now; those of the last time where the kernel does not answer this once."""
        try:
            everything = inventory(self._netlink, self._options.excluded)
        except KernelError as error:
            log.debug("%s: taking the ports of the last interval", error)
        else:
            self._last = [found for found in everything if self._takes(found)]
        return self._last

    def _tell_changes(self, chosen: Sequence[Found]) -> None:
        present = {found.identity for found in chosen}
        for identity in [identity for identity in self._readers if identity not in present]:
            del self._readers[identity]
            self._say(f"{identity[0]}: the RDMA device is gone")
        for found in chosen:
            if found.identity not in self._readers:
                self._say(f"{found.id}: an RDMA device has come")

    def _read(self, chosen: Sequence[Found]) -> list[PortRecord]:
        self._devices = frozenset(found.id.device for found in chosen)
        records = []
        for found in chosen:
            reader = self._readers.get(found.identity)
            if reader is None:
                reader = self._readers[found.identity] = PortReader(found, self._netlink)
            record = judge(reader.read(found), self._options.limits, reader.was_active)
            reader.was_active = reader.was_active or record.info.is_active
            records.append(record)
        self._netdevs = {record.id: record.info.netdev for record in records if record.info.netdev}
        return records

    def finish(self) -> RdmaSnapshot:
        """End the last interval."""
        snapshot = self.tick()
        self.ended = True
        return snapshot

    def close(self) -> None:
        """Release everything."""
        self.ended = True
        self._opened.close()
