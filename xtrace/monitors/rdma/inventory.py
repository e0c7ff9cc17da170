"""Which RDMA ports there are: by netlink, else by sysfs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase

from xtrace.errors import KernelError
from xtrace.kernel import infiniband, rdma
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.model.rdma import PortId
from xtrace.monitors.backoff import why
from xtrace.monitors.rdma.ports import FIRST_PORT, Found

log = logging.getLogger(__name__)


def open_netlink() -> NetlinkSocket | None:
    """A socket for RDMA netlink; None if the kernel does not have it, and sysfs has to do."""
    try:
        return NetlinkSocket(rdma.NETLINK_RDMA)
    except KernelError as error:
        log.debug("%s: using sysfs only", error)
        return None


def inventory(netlink: NetlinkSocket | None, excluded: Sequence[str] = ()) -> list[Found]:
    """All ports, by device and number. Raises KernelError if netlink fails."""
    if netlink is not None:
        devices = [device for device in rdma.devices(netlink) if not matches(device.name, excluded)]
        devices.sort(key=lambda device: infiniband.natural(device.name))
        known = {device.name for device in devices}
        broken = [name for name in _names(excluded) if name not in known and infiniband.is_broken_link(name)]
        return [
            *(found for device in devices for found in _ports_of(netlink, device)),
            *(found for name in broken for found in _sysfs_ports(name)),
        ]
    return [found for name in _names(excluded) for found in _sysfs_ports(name)]


def _names(excluded: Sequence[str]) -> list[str]:
    return [name for name in infiniband.device_names() if not matches(name, excluded)]


def _ports_of(netlink: NetlinkSocket, device: rdma.RdmaDevice) -> list[Found]:
    try:
        ports = rdma.ports(netlink, device)
    except KernelError as error:
        log.debug("%s", error)
        return [Found(PortId(device.name, number), device, None) for number in range(1, device.ports + 1)]
    return [Found(PortId(device.name, port.number), device, port) for port in ports]


def _sysfs_ports(device: str) -> list[Found]:
    """A device's ports; if they are unknown, one lost port in their place."""
    lost = "no ports"
    try:
        numbers = infiniband.port_numbers(device)
    except OSError as error:
        numbers, lost = [], f"ports cannot be read: {why(error)}"
        if infiniband.is_broken_link(device):
            lost = "broken link in /sys/class/infiniband"
    if not numbers:
        return [Found(PortId(device, FIRST_PORT), None, None, lost)]
    return [Found(PortId(device, number), None, None) for number in numbers]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of the names or globs."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def netdev_of(port: Found) -> str | None:
    """The port's network interface."""
    return (port.port.netdev if port.port else None) or infiniband.netdev(port.id.device, port.id.port)
