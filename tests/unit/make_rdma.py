"""RDMA ports, queue pairs and snapshots for tests; and trees of sysfs as drivers make them.

The trees are written by hand from the drivers' sources: not tried on hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.unit.make import BOOT, NS
from xtrace.model.rdma import (
    PortId,
    PortInfo,
    PortRecord,
    Process,
    QueuePairRecord,
    QueuePairs,
    Rails,
    RdmaSnapshot,
    Reading,
)
from xtrace.model.rdma_counters import figures

EINVAL = "/sys/class/net/lo/speed"
"""A file of the real kernel whose reading fails with EINVAL: a loopback has no speed."""

MLX5 = PortId("mlx5_0", 1)
NO_RAILS = Rails(0, None)
PERFTEST = Process(434, "ib_write_bw", "0123456789ab" + 52 * "0")


def grew(delta: int, total: int = 1_000_000) -> Reading:
    """A counter that grew."""
    return Reading(total, delta, "ok")


def port(
    hardware: Mapping[str, Reading] | None = None,
    standard: Mapping[str, Reading] | None = None,
    *,
    where: PortId = MLX5,
    state: str = "ACTIVE",
    interval_ns: int | None = 5 * NS,
    ethernet: Mapping[str, Reading] | None = None,
    unavailable: str = "",
    rate_bps: int | None = 100 * 10**9,
    netdev: str | None = "eth0",
) -> PortRecord:
    """A port that counted this."""
    rate = "100 Gb/sec (4X EDR)"
    info = PortInfo(
        state, "LINK_UP", "Ethernet", rate, rate_bps, netdev, "mlx5_core", "28.39.1002", "0000:3b:00.0", numa_node=0
    )
    hardware, standard = hardware or {}, standard or {}
    return PortRecord(
        where, info, interval_ns, figures(hardware, standard), hardware, standard, ethernet or {}, unavailable
    )


def traffic(rx_bytes: int, tx_bytes: int, rx_packets: int = 1000, tx_packets: int = 1000) -> dict[str, Reading]:
    """The standard counters of a port that carried this; data in words of four bytes."""
    return {
        "port_rcv_data": grew(rx_bytes // 4),
        "port_xmit_data": grew(tx_bytes // 4),
        "port_rcv_packets": grew(rx_packets),
        "port_xmit_packets": grew(tx_packets),
    }


def pair(
    number: int = 17,
    remote: int | None = 18,
    *,
    where: PortId = MLX5,
    kind: str = "RC",
    state: str = "RTS",
    process: Process = PERFTEST,
    address: str | None = None,
) -> QueuePairRecord:
    """A queue pair."""
    return QueuePairRecord(where, number, kind, state, remote, process, address)


def snapshot(
    ports: Iterable[PortRecord] = (),
    pairs: Iterable[QueuePairRecord] = (),
    rails: Rails = NO_RAILS,
    *,
    qps: bool = True,
) -> RdmaSnapshot:
    """One interval of five seconds."""
    asked = QueuePairs(tuple(pairs), BOOT + 4 * NS, ())
    return RdmaSnapshot(BOOT + 5 * NS, 5 * NS, tuple(ports), asked, rails, every_queue_pair=qps)


def write(path: Path, text: str) -> None:
    """One attribute of sysfs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def device(
    sysfs: Path,
    name: str,
    *,
    driver: str | None = None,
    pci: str = "0000:3b:00.0",
    netdevs: Iterable[str] = (),
    ports: int = 1,
    **attributes: str,
) -> Path:
    """A device's directory, its ports without counters; `attributes` are those of every port."""
    directory = sysfs / "class/infiniband" / name
    usual = {
        "state": "4: ACTIVE",
        "phys_state": "5: LinkUp",
        "link_layer": "Ethernet",
        "rate": "100 Gb/sec (4X EDR)",
        "lid": "0x0",
    }
    for number in range(1, ports + 1):
        for attribute, text in {**usual, **attributes}.items():
            write(directory / f"ports/{number}/{attribute}", text)
    if driver:
        parent = sysfs / "devices" / pci
        parent.mkdir(parents=True, exist_ok=True)
        write(parent / "numa_node", "1")
        (sysfs / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (parent / "driver").symlink_to(sysfs / "bus/pci/drivers" / driver)
        for index, netdev in enumerate(netdevs):
            write(parent / "net" / netdev / "dev_port", str(index))
        (directory / "device").symlink_to(parent)
    return directory


def counters(
    directory: Path,
    values: Mapping[str, int | str] | None = None,
    /,
    *,
    port: int = 1,
    kind: str = "hw_counters",
    **more: int | str,
) -> None:
    """Counters of a port; a path as value is a link to a file that cannot be read as it should."""
    for name, value in {**(values or {}), **more}.items():
        path = directory / f"ports/{port}/{kind}/{name}"
        if path.exists() or path.is_symlink():
            path.unlink()
        if isinstance(value, str) and value.startswith("/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(value)
        else:
            write(path, str(value))
