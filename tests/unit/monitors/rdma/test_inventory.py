"""Which RDMA ports there are, in the order in which people count."""

from __future__ import annotations

from typing import cast

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import infiniband, rdma
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rdma import RdmaDevice
from xtrace.monitors.rdma.inventory import inventory, matches

SOCKET = cast("NetlinkSocket", object())


def listed(monkeypatch: pytest.MonkeyPatch, *devices: RdmaDevice, excluded: tuple[str, ...] = ()) -> list[str]:
    def refuse(socket: object, device: RdmaDevice) -> None:
        raise KernelError("RDMA_NLDEV_CMD_PORT_GET", 5)

    monkeypatch.setattr(rdma, "devices", lambda socket: list(devices))
    monkeypatch.setattr(rdma, "ports", refuse)
    monkeypatch.setattr(infiniband, "device_names", list)
    return [str(found.id) for found in inventory(SOCKET, excluded)]


def test_devices_are_in_the_order_of_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [RdmaDevice(index, f"mlx5_{number}", 1) for index, number in enumerate((10, 2, 1))]
    assert listed(monkeypatch, *devices) == ["mlx5_1/1", "mlx5_2/1", "mlx5_10/1"]
    assert listed(monkeypatch, *devices, excluded=("mlx5_1*",)) == ["mlx5_2/1"]


@pytest.mark.parametrize("ports", [1, 2])
def test_ports_that_cannot_be_asked_about_are_all_there(monkeypatch: pytest.MonkeyPatch, ports: int) -> None:
    assert listed(monkeypatch, RdmaDevice(0, "mlx4_0", ports)) == [f"mlx4_0/{n}" for n in range(1, ports + 1)]


def test_names_match_as_a_whole_or_by_glob() -> None:
    assert matches("mlx5_1", ["mlx5_0", "mlx5_1"])
    assert matches("mlx5_10", ["mlx5_1*"])
    assert not matches("mlx5_10", ["mlx5_1"])
    assert not matches("mlx5_1", [])
