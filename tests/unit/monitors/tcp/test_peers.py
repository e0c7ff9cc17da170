"""Namespaces behind monitored interfaces: found by the numbers that the kernel has for them, kept while they exist."""

from __future__ import annotations

import os
from errno import ENOENT
from pathlib import Path
from types import SimpleNamespace

import pytest

from xtrace.errors import KernelError
from xtrace.monitors.tcp import peers as module
from xtrace.monitors.tcp.peers import MOST_PEERS, Monitored, Peers


class Kernel:
    """Interfaces with a namespace behind them, and namespaces: number and inode by path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.links: dict[str, int | None] = {}
        self.namespaces: dict[str, tuple[int, int]] = {}
        self.gone: set[str] = set()
        self.searched = 0
        self._opened: dict[int, str] = {}
        monkeypatch.setattr(module, "NetlinkSocket", lambda _: SimpleNamespace(close=lambda: None))
        monkeypatch.setattr(module, "all_namespaces", self.all_namespaces)
        monkeypatch.setattr(module, "opened", self.open)
        monkeypatch.setattr(module, "inode_of", self.inode_of)
        monkeypatch.setattr(module, "rtnetlink", SimpleNamespace(link=self.link, netnsid=self.netnsid))

    def link(self, _: object, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(peer_netnsid=self.links[name]) if name in self.links else None

    def all_namespaces(self) -> dict[int, Path]:
        self.searched += 1
        return {inode: Path(path) for path, (_, inode) in self.namespaces.items()}

    def open(self, path: Path) -> int:
        if str(path) in self.gone:
            raise KernelError(f"{path}: gone", ENOENT)
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self._opened[descriptor] = str(path)
        return descriptor

    def netnsid(self, _: object, descriptor: int) -> int | None:
        number = self.namespaces[self._opened[descriptor]][0]
        return None if number < 0 else number

    def inode_of(self, path: Path) -> int:
        if str(path) not in self.namespaces:
            raise OSError
        return self.namespaces[str(path)][1]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def watching(*names: str) -> Peers:
    return Peers(Monitored(names))


def test_namespaces_behind_monitored_interfaces_alone_are_found(kernel: Kernel) -> None:
    kernel.links = {"a": 1, "b": 2, "c": None, "not monitored": 3}
    kernel.namespaces = {"/x": (2, 20), "/y": (1, 10), "/z": (3, 30), "/own": (-1, 40)}
    peers = watching("a", "b", "c", "not there")
    assert peers.find() == {10: Path("/y"), 20: Path("/x")}
    assert peers.unfound == 0
    peers.close()


def test_nothing_is_searched_while_all_are_known(kernel: Kernel) -> None:
    kernel.links = {"a": 1}
    kernel.namespaces = {"/x": (1, 10)}
    peers = watching("a")
    assert peers.find() == peers.find() == {10: Path("/x")}
    assert kernel.searched == 1
    kernel.links = {}
    assert peers.find() == {}
    assert kernel.searched == 1


def test_path_that_leads_elsewhere_or_nowhere_is_looked_for_again(kernel: Kernel) -> None:
    kernel.links = {"a": 1}
    kernel.namespaces = {"/x": (1, 10)}
    peers = watching("a")
    peers.find()
    kernel.namespaces = {"/x": (7, 70), "/y": (1, 10)}
    assert peers.find() == {10: Path("/y")}
    kernel.namespaces = {"/w": (1, 10)}
    assert peers.find() == {10: Path("/w")}
    assert kernel.searched == 3


def test_those_that_are_not_found_are_counted_and_found_once_they_are_there(kernel: Kernel) -> None:
    kernel.links = {"a": 1, "b": 2}
    kernel.namespaces = {"/x": (1, 10), "/y": (2, 20)}
    kernel.gone = {"/y"}
    peers = watching("a", "b")
    assert (peers.find(), peers.unfound) == ({10: Path("/x")}, 1)
    kernel.gone = set()
    assert (peers.find(), peers.unfound) == ({10: Path("/x"), 20: Path("/y")}, 0)


def test_as_many_as_can_be_read_are_taken_in_the_order_of_their_numbers(kernel: Kernel) -> None:
    names = [f"i{number}" for number in range(MOST_PEERS + 1)]
    kernel.links = {name: len(names) - number for number, name in enumerate(names)}
    kernel.namespaces = {f"/{number}": (number, 1000 + number) for number in range(1, len(names) + 1)}
    assert list(watching(*names).find()) == [1000 + number for number in range(1, MOST_PEERS + 1)]
