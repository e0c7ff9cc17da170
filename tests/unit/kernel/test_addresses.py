"""Addresses of interfaces against a played kernel."""

from __future__ import annotations

import struct

import pytest

from tests.unit.kernel.test_routes import address
from tests.unit.kernel.test_rtnetlink import ETH0, ETH1, FakeKernel, dump, message
from xtrace.errors import KernelError
from xtrace.kernel import addresses, netlink, routes, syscall
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute

NEW_LINK = 16  # RTM_NEWLINK, linux/rtnetlink.h


def found(monkeypatch: pytest.MonkeyPatch, *messages: bytes) -> dict[int, tuple[str, ...]]:
    monkeypatch.setattr(syscall, "lib", FakeKernel(dump(*messages)))
    return addresses.of_interfaces(NetlinkSocket(netlink.NETLINK_ROUTE))


def test_addresses_of_each_interface_are_told_in_the_kernels_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(
        monkeypatch,
        address("10.0.0.7", 24),
        address("192.0.2.1", 32, index=ETH1),
        address("fd00::7", 64),
        message(NEW_LINK, bytes(16)),
    ) == {ETH0: ("10.0.0.7/24", "fd00::7/64"), ETH1: ("192.0.2.1/32",)}


def test_address_of_a_tunnel_is_its_own_and_not_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, address("10.0.0.7", 32, peer="10.0.0.8")) == {ETH0: ("10.0.0.7/32",)}


@pytest.mark.parametrize("length", [0, 5])
def test_address_of_another_length_is_malformed(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    body = struct.pack("=BBBBI", 2, 24, 0, 0, ETH0) + pack_attribute(routes.IFA_ADDRESS, bytes(length))
    with pytest.raises(KernelError, match=f"an address of {length} bytes"):
        found(monkeypatch, message(routes.RTM_NEWADDR, body))


def test_cut_address_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="ifaddrmsg"):
        found(monkeypatch, message(routes.RTM_NEWADDR, bytes(4)))
