"""The network namespaces at the other end of monitored veth and netkit interfaces: those of containers, usually."""

from __future__ import annotations

import os
from pathlib import Path

from xtrace.errors import KernelError
from xtrace.kernel import rtnetlink
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.kernel.network_namespaces import all_namespaces, inode_of, opened
from xtrace.kernel.syscall import lib

MOST_PEERS = lib.TCP_MAX_NAMESPACES - 1


class Monitored:
    """The names of the monitored interfaces, as the thread that reads sockets knows them."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names


class Peers:
    """Finds the namespaces; those found are looked for again only where the interfaces' peers change."""

    def __init__(self, monitored: Monitored) -> None:
        """Raises KernelError."""
        self._monitored = monitored
        self._netlink = NetlinkSocket(NETLINK_ROUTE)
        self._found: dict[int, tuple[int, Path]] = {}
        """by the number that interfaces have for it: inode number and path"""
        self.unfound = 0
        """namespaces behind monitored interfaces that the last find() did not find"""

    def find(self) -> dict[int, Path]:
        """Return the paths of the namespaces by inode number, at most MOST_PEERS. Raises KernelError."""
        wanted = self._wanted()
        kept = {number: self._found[number] for number in wanted & self._found.keys()}
        self._found = {number: found for number, found in kept.items() if _is(*found)}
        if wanted - self._found.keys():
            for inode, path in all_namespaces().items():
                self._identify(inode, path, wanted)
        self.unfound = len(wanted - self._found.keys())
        return dict([self._found[number] for number in sorted(self._found)][:MOST_PEERS])

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def _wanted(self) -> set[int]:
        links = (rtnetlink.link(self._netlink, name) for name in self._monitored.names)
        return {link.peer_netnsid for link in links if link is not None and link.peer_netnsid is not None}

    def _identify(self, inode: int, path: Path, wanted: set[int]) -> None:
        try:
            descriptor = opened(path)
        except KernelError:
            return  # gone
        try:
            number = rtnetlink.netnsid(self._netlink, descriptor)
        finally:
            os.close(descriptor)
        if number is not None and number in wanted:
            self._found[number] = inode, path


def _is(inode: int, path: Path) -> bool:
    """Whether the path still leads to that namespace: its process may be gone, and its number used again."""
    try:
        return inode_of(path) == inode
    except OSError:
        return False
