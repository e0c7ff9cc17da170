"""All RAS services that are asked: each address, and loopback ones also in the namespaces of processes that use NCCL.

A container has its own localhost, and NCCL's service listens there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from xtrace.kernel.network_namespaces import inode_of
from xtrace.kernel.paths import procfs
from xtrace.model.nccl_ras import RasCommunicator, RasReport
from xtrace.monitors.nccl.ras import RasPoller

MOST_NAMESPACES = 16
"""In which a loopback address is asked, besides the tool's own."""

FOLLOW_NS = 5_000_000_000
"""How often it is looked in which namespaces processes are."""

Address = tuple[str, int]


class Place(NamedTuple):
    """A service: an address, and the network namespace where that is, by inode number; None: the tool's own."""

    address: Address
    namespace: int | None = None


class RasServices:
    """A poller for each place; ticks take what they have answered since."""

    def __init__(
        self, addresses: Sequence[Address], every_s: float, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._every_s = every_s
        self._clock = clock
        self._followed_ns: int | None = None
        self._pollers = {Place(address): RasPoller(address, every_s) for address in addresses}
        self._local = [address for address in addresses if is_loopback(address[0])]

    def follow(self, pids: Iterable[int]) -> None:
        """Ask inside the namespaces of these processes, and no longer where there are none."""
        now = self._clock()
        if not self._local or (self._followed_ns is not None and now - self._followed_ns < FOLLOW_NS):
            return
        self._followed_ns = now
        found = namespaces(pids)
        for place in [place for place in self._pollers if place.namespace is not None]:
            if place.namespace not in found:
                self._pollers.pop(place).stop()
        for namespace, pid in found.items():
            for address in self._local:
                place = Place(address, namespace)
                if place not in self._pollers:
                    self._pollers[place] = RasPoller(address, self._every_s, pid)

    @property
    def answers(self) -> bool | None:
        """Whether each address has answered its last query somewhere; None before the first."""
        by_address: dict[Address, list[bool | None]] = {}
        for place, poller in self._pollers.items():
            by_address.setdefault(place.address, []).append(poller.answers)
        states = list(by_address.values())
        if all(any(state) for state in states):
            return True
        return None if any(None in state for state in states) else False

    def take(self) -> RasReport | None:
        """The reports since the last call as one, if there are any."""
        reports = [report for poller in self._pollers.values() if (report := poller.take()) is not None]
        return merged(reports) if reports else None

    def close(self) -> None:
        """Stop all. A pending query ends with the process."""
        for poller in self._pollers.values():
            poller.stop()
        for poller in self._pollers.values():
            poller.close()


def merged(reports: Sequence[RasReport]) -> RasReport:
    """All communicators, each with the address that reported it; one that several services report is told once."""
    first = reports[0]
    found: dict[tuple[str, frozenset[tuple[str, int]]], RasCommunicator] = {}
    for report in reports:
        for one in report.communicators:
            version = one.nccl_version or report.nccl_version
            found.setdefault((one.name, one.processes), replace(one, address=report.address, nccl_version=version))
    return replace(
        first,
        at_ns=max(report.at_ns for report in reports),
        communicators=tuple(found.values()),
        timeouts=sum(report.timeouts for report in reports),
        unread=sum(report.unread for report in reports),
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of the host which asks."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def namespaces(pids: Iterable[int]) -> Mapping[int, int]:
    """The network namespaces of these processes but the tool's own, by inode number, each with one of them."""
    own = inode_of()
    found: dict[int, int] = {}
    for pid, inode in _inodes(pids):
        if inode != own and len(found) < MOST_NAMESPACES:
            found.setdefault(inode, pid)
    return found


def _inodes(pids: Iterable[int]) -> Iterator[tuple[int, int]]:
    for pid in pids:
        with suppress(OSError):  # the process is gone, or must not be looked into
            yield pid, inode_of(Path(procfs(), str(pid), "ns/net"))
