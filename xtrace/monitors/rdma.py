"""Mode rdma: what the ports of RDMA devices carry, and how they suffer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from xtrace.errors import KernelError, RdmaError
from xtrace.kernel import rdma, sysfs
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.monitors.rdma_ports import PortReader, Seen
from xtrace.rdma import PortId, PortRecord, QueuePairs, RdmaSnapshot
from xtrace.rdma_health import LIMITS, Limits, judge, rails

log = logging.getLogger(__name__)

Say = Callable[[str], None]

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


def open_netlink() -> NetlinkSocket | None:
    """A socket to ask RDMA netlink; None where the kernel has none, and sysfs has to do."""
    try:
        return NetlinkSocket(rdma.NETLINK_RDMA)
    except KernelError as error:
        log.debug("%s: reading sysfs alone", error)
        return None


def inventory(netlink: NetlinkSocket | None, excluded: Sequence[str] = ()) -> list[Seen]:
    """All ports there are, by device and number. A device that fails is said at debug level, and left out."""
    if netlink is not None:
        try:
            devices = rdma.devices(netlink)
        except KernelError as error:
            log.debug("%s: reading sysfs alone", error)
        else:
            devices = [device for device in devices if not matches(device.name, excluded)]
            devices.sort(key=lambda device: sysfs.natural(device.name))
            return [seen for device in devices for seen in _ports_of(netlink, device)]
    names = [name for name in sysfs.device_names() if not matches(name, excluded)]
    return [Seen(PortId(name, port), None, None) for name in names for port in _sysfs_ports(name)]


def _ports_of(netlink: NetlinkSocket, device: rdma.RdmaDevice) -> list[Seen]:
    try:
        ports = rdma.ports(netlink, device)
    except KernelError as error:
        log.debug("%s", error)
        return [Seen(PortId(device.name, number), device, None) for number in range(1, device.ports + 1)]
    return [Seen(PortId(device.name, port.number), device, port) for port in ports]


def _sysfs_ports(device: str) -> list[int]:
    try:
        return sysfs.port_numbers(device)
    except OSError as error:
        log.debug("%s: %s", device, error)
        return []


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name is one of those, or fits one of the globs."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def netdev_of(seen: Seen) -> str | None:
    """The port's network interface."""
    return (seen.port.netdev if seen.port else None) or sysfs.netdev(seen.id.device, seen.id.port)


def list_ports(options: RdmaOptions) -> list[PortRecord]:
    """The ports that were asked for as they stand now. Raises RdmaError as the monitor does."""
    monitor = RdmaMonitor(options, log.debug)
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


class RdmaMonitor:
    """Reads ports at every tick; follows devices as they come and go. Needs no privilege."""

    def __init__(self, options: RdmaOptions, say: Say) -> None:
        self._options = options
        self._say = say
        self._readers: dict[tuple[PortId, int], PortReader] = {}
        self.ended = False
        with ExitStack() as opening:
            self._netlink = open_netlink()
            if self._netlink is not None:
                opening.callback(self._netlink.close)
            self._events = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            opening.callback(os.close, self._events)
            self._start_ns = time.monotonic_ns()
            self.first = self._read(self._first_inventory())
            """the readings that the first interval is measured from"""
            self._opened = opening.pop_all()

    def _first_inventory(self) -> list[Seen]:
        """Raises RdmaError where nothing of what was asked for is there."""
        everything = inventory(self._netlink, self._options.excluded)
        if not everything:
            raise RdmaError(NO_RDMA)
        there = ", ".join(f"{seen.id} ({netdev_of(seen) or 'no interface'})" for seen in everything)
        names = [seen.id.device for seen in everything]
        missing = [wanted for wanted in self._options.devices if not any(matches(name, [wanted]) for name in names)]
        chosen = [seen for seen in everything if self._takes(seen)]
        for wanted in missing if chosen else ():
            log.error("RDMA device %s not found: there are %s", wanted, there)
        if not chosen and missing:
            raise RdmaError(f"RDMA device {', '.join(missing)} not found: there are {there}; choose one with -d")
        if not chosen:
            wanted = ", ".join(self._options.interfaces)
            raise RdmaError(f"no RDMA port has interface {wanted}: there are {there}; choose one with -d")
        return chosen

    def _takes(self, seen: Seen) -> bool:
        if self._options.devices:
            return matches(seen.id.device, self._options.devices)
        return not self._options.interfaces or matches(netdev_of(seen) or "", self._options.interfaces)

    def fileno(self) -> int:
        """Readable when react() has something to do."""
        return self._events

    def react(self) -> None:
        """Nothing happens between ticks."""

    def tick(self) -> RdmaSnapshot:
        """End the current interval, start the next."""
        chosen = [seen for seen in inventory(self._netlink, self._options.excluded) if self._takes(seen)]
        self._tell_changes(chosen)
        records = tuple(self._read(chosen))
        now = time.monotonic_ns()
        snapshot = RdmaSnapshot(
            end_ns=time.time_ns(),
            interval_ns=now - self._start_ns,
            ports=records,
            queue_pairs=QueuePairs(),
            rails=rails(records),
            every_queue_pair=self._options.every_queue_pair,
        )
        self._start_ns = now
        return snapshot

    def _tell_changes(self, chosen: Sequence[Seen]) -> None:
        present = {seen.identity for seen in chosen}
        for identity in [identity for identity in self._readers if identity not in present]:
            del self._readers[identity]
            self._say(f"{identity[0]}: the RDMA device is gone")
        for seen in chosen:
            if seen.identity not in self._readers:
                self._say(f"{seen.id}: an RDMA device has come")

    def _read(self, chosen: Sequence[Seen]) -> list[PortRecord]:
        records = []
        for seen in chosen:
            reader = self._readers.get(seen.identity)
            if reader is None:
                reader = self._readers[seen.identity] = PortReader(seen, self._netlink)
            record = judge(reader.read(seen), self._options.limits, reader.was_active)
            reader.was_active = reader.was_active or record.info.state == "ACTIVE"
            records.append(record)
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
