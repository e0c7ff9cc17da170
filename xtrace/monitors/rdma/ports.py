"""One RDMA port: reads its state and counters by netlink and sysfs, and compares them with the reading before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from xtrace.errors import KernelError
from xtrace.kernel import infiniband, rdma
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.model.rdma import UNAVAILABLE, Figure, PortId, PortInfo, PortRecord, Reading
from xtrace.model.rdma_counters import NOT_COUNTERS, Source, figures
from xtrace.model.rdma_readings import Track, gauge, impossible, is_gauge, most_growth, saturates_at, wraps
from xtrace.monitors.backoff import Backoff, why
from xtrace.monitors.rdma.ethernet import EthernetCounters

GIVE_UP_AFTER = 3
"""If the first reads of a directory fail, this many in a row, two others decide whether all of it is given up."""

FIRST_PORT = 1


class Directory:
    """The counters of one directory of sysfs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: list[tuple[str, str]] = []

    def read(self, backoff: Backoff) -> dict[str, int | str]:
        """Values by name, or why a value cannot be read. A failing read does not affect the others."""
        if not self._files:  # it may not exist yet for a device that has just appeared
            names = [name for name in infiniband.entries(self._path) if name not in NOT_COUNTERS]
            self._files = [(name, f"{self._path}/{name}") for name in names]
        refused = backoff.reason(self._path)
        if refused:
            return self._all(refused)
        values: dict[str, int | str] = {}
        some_worked = False
        for name, path in self._files:
            values[name] = value = self._read_one(path, backoff)
            some_worked = some_worked or isinstance(value, int)
            if not some_worked and len(values) == GIVE_UP_AFTER:
                others = (self._files[len(self._files) // 2], self._files[-1])
                if all(isinstance(self._read_one(path, backoff), str) for _, path in others):
                    return self._all(backoff.failed(self._path, str(value)))
        backoff.succeeded(self._path)
        return values

    def _all(self, reason: str) -> dict[str, int | str]:
        return dict.fromkeys((name for name, _ in self._files), reason)

    @staticmethod
    def _read_one(path: str, backoff: Backoff) -> int | str:
        refused = backoff.reason(path)
        if refused:
            return refused
        try:
            value = infiniband.read_number(path)
        except (OSError, ValueError) as error:
            return backoff.failed(path, why(error))
        backoff.succeeded(path)
        return value


@dataclass(frozen=True)
class Found:
    """A port as the inventory found it: with netlink, its device and state there."""

    id: PortId
    device: rdma.RdmaDevice | None
    port: rdma.RdmaPort | None
    lost: str = ""
    """why nothing can be read of it at all"""

    @property
    def identity(self) -> tuple[PortId, int]:
        """Port and device index: the same name with another index is another device."""
        return self.id, self.device.index if self.device else -1


class PortReader:
    """Reads one port at every tick."""

    def __init__(
        self, found: Found, netlink: NetlinkSocket | None, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.id = found.id
        self.was_active = False
        self._netlink = netlink
        self._clock = clock
        self._backoff = Backoff(clock)
        self._directory = str(infiniband.port_directory(found.id.device, found.id.port))
        self._hardware = Directory(f"{self._directory}/hw_counters")
        self._standard = Directory(f"{self._directory}/counters")
        # efa, cxgb4, mlx5 in switchdev mode: of the device, so shown with one port only
        own = infiniband.root() / found.id.device / "hw_counters"
        self._of_device = Directory(str(own)) if found.id.port == FIRST_PORT else None
        self._ethernet = EthernetCounters(self._backoff)
        self._ethernet_of: str | None = None
        self._tracks: dict[tuple[str, str], Track] = {}
        self._sources: dict[str, Source] = {}
        """the source of each figure: the first one that could be read"""
        self._read_at: int | None = None
        self._fastest = 0
        """highest line rate seen, in bits per second"""
        self._most_growth: int | None = None
        self._state_before: str | None = ""
        self._netdev: str | None = None
        """according to sysfs; read again, like `_fixed`, when the port's state changes"""
        self._fixed = PortInfo()

    def _read_fixed(self, found: Found) -> PortInfo:
        """What does not change while the device exists."""
        device = self.id.device
        pci = infiniband.parent_link(device)
        driver = infiniband.parent_link(device, "driver")
        directory = infiniband.root() / device
        if driver is None and infiniband.read_or_none(directory / "parent"):
            driver = "rdma_rxe"  # software on top of a netdev, which `parent` names
        firmware = found.device.firmware if found.device else infiniband.read_or_none(directory / "fw_ver")
        return PortInfo(
            link_layer=infiniband.read_or_none(f"{self._directory}/link_layer") or _layer_of(found.device),
            driver=driver,
            firmware=firmware or None,
            pci=pci if pci and ":" in pci else None,
            numa_node=infiniband.numa_node(device),
            is_function=infiniband.is_virtual_function(device),
        )

    def read(self, found: Found) -> PortRecord:
        """The port's record: its state, and what it counted since the last call."""
        info = self._info(found)
        self._note_line_rate(info)
        hardware = self._readings("hw", self._hardware_values(found), info.driver)
        standard = self._readings("std", self._standard.read(self._backoff), info.driver)
        if info.netdev != self._ethernet_of:  # counters of different interfaces must not be compared
            self._ethernet_of = info.netdev
            self._tracks = {key: track for key, track in self._tracks.items() if key[0] != "eth"}
        ethernet = self._readings("eth", self._ethernet.read(info.netdev), info.driver)
        now = self._clock()
        interval = None if self._read_at is None else now - self._read_at
        self._read_at = now
        known = figures(hardware, standard, self._sources)
        readings = [*hardware.values(), *standard.values()]
        unavailable = _unavailable(info, readings, known.values())
        return PortRecord(
            id=self.id,
            info=info,
            interval_ns=interval,
            figures=known,
            hardware=hardware,
            standard=standard,
            ethernet=ethernet,
            unavailable=unavailable,
            uncounted="" if unavailable or known else _uncounted(len(readings)),
        )

    def _note_line_rate(self, info: PortInfo) -> None:
        """Set how much counters can have grown since the last reading. A port that is down reports a low rate."""
        self._fastest = max(self._fastest, info.rate_bps or 0)
        elapsed = 0 if self._read_at is None else self._clock() - self._read_at
        self._most_growth = most_growth(self._fastest or None, info.driver, elapsed)

    def _info(self, found: Found) -> PortInfo:
        rate = infiniband.read_or_none(f"{self._directory}/rate")
        state, physical, lid, netdev = self._state(found)
        if state != self._state_before:
            self._state_before, self._netdev = state, infiniband.netdev(self.id.device, self.id.port)
            self._fixed = self._read_fixed(found)
        fixed = self._fixed
        return PortInfo(
            state=state,
            physical_state=physical,
            link_layer=fixed.link_layer,
            rate=rate,
            rate_bps=infiniband.rate_bps(rate),
            netdev=netdev or self._netdev,
            driver=fixed.driver,
            firmware=fixed.firmware,
            pci=fixed.pci,
            numa_node=fixed.numa_node,
            lid=lid or None,
            is_function=fixed.is_function,
        )

    def _state(self, found: Found) -> tuple[str | None, str | None, int | None, str | None]:
        """State, physical state, LID and netdev."""
        if found.port:
            return found.port.state, found.port.physical_state, found.port.lid, found.port.netdev
        state = infiniband.state(infiniband.read_or_none(f"{self._directory}/state"), rdma.PORT_STATES)
        physical = infiniband.state(infiniband.read_or_none(f"{self._directory}/phys_state"), rdma.PHYSICAL_STATES)
        return state, physical, infiniband.lid(self.id.device, self.id.port), None

    def _hardware_values(self, found: Found) -> dict[str, int | str]:
        """The port's counters, and with the first port the device's, which only sysfs has."""
        of_device = self._of_device.read(self._backoff) if self._of_device else {}
        return {**of_device, **self._port_values(found)}

    def _port_values(self, found: Found) -> Mapping[str, int | str]:
        """By netlink, which reads all of them at once; else by sysfs."""
        if self._netlink is not None and found.device is not None and self._backoff.reason("netlink") is None:
            try:
                values = rdma.counters(self._netlink, found.device, self.id.port)
            except KernelError as error:
                self._backoff.failed("netlink", str(error))
            else:
                self._backoff.succeeded("netlink")
                return {name: value for name, value in values.items() if name not in NOT_COUNTERS}
        return self._hardware.read(self._backoff)

    def _readings(self, kind: str, values: Mapping[str, int | str], driver: str | None) -> dict[str, Reading]:
        for (of, name), track in self._tracks.items():
            if of == kind and name not in values:
                track.missed("missing")
        return {name: self._reading(kind, name, value, driver) for name, value in values.items()}

    def _reading(self, kind: str, name: str, value: int | str, driver: str | None) -> Reading:
        if isinstance(value, int):
            value = impossible(kind, name, value) or value
        if kind == "hw" and is_gauge(name) and isinstance(value, int):
            return gauge(value)
        track = self._tracks.get((kind, name))
        if track is None:
            track = self._tracks[kind, name] = Track()
        if isinstance(value, str):
            return track.missed(value)
        if kind == "std":
            return track.read(value, maximum=saturates_at(name), most=self._most_growth)
        return track.read(value, wrapping=kind == "hw" and wraps(driver, name), most=self._most_growth)


def _layer_of(device: rdma.RdmaDevice | None) -> str | None:
    """The link layer by protocol, if sysfs is not available; drivers may have several, as in "roce|usnic"."""
    if device is None or not device.protocol:
        return None
    return "Ethernet" if {"roce", "iw", "usnic"} & set(device.protocol.split("|")) else "InfiniBand"


def _unavailable(info: PortInfo, readings: Sequence[Reading], known: Collection[Figure]) -> str:
    """Why nothing could be counted, if there are counters and none of them could be read; else ""."""
    failed = [reading for reading in readings if reading.status == UNAVAILABLE]
    if failed and len(failed) == len(readings):
        return f"counters: {failed[0].reason}"
    figures_failed = [figure.reading for figure in known if figure.reading.status == UNAVAILABLE]
    if figures_failed and len(figures_failed) == len(known):
        return f"counters: {figures_failed[0].reason}"
    return "" if readings or info.state else "nothing can be read"


def _uncounted(counters: int) -> str:
    """Why a port has no figures although nothing failed."""
    if counters:
        return f"none of its {counters} counters has a known name"
    return "no counters (the driver has none, or none in this network namespace)"
