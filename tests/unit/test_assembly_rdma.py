"""Mode rdma by the command line, without privilege and without netlink, over a tree of sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.net import records
from tests.support.schema import validate
from tests.unit.make_rdma import counters, device
from xtrace import assembly
from xtrace.config import parse
from xtrace.errors import RdmaError, UsageError
from xtrace.stop import Stop


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two mlx5 ports."""
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", lambda: None)
    monkeypatch.setattr("xtrace.sinks.identity.source_address", lambda: None)
    tree = tmp_path / "sys"
    for number in range(2):
        made = device(tree, f"mlx5_{number}", driver="mlx5_core", pci=f"0000:0{number}:00.0", netdevs=[f"ens{number}"])
        counters(made, kind="counters", port_rcv_data=1, port_xmit_data=2, port_rcv_packets=3, port_xmit_packets=4)
    return tree


def run(arguments: str, sysfs: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What it writes to standard output."""
    config = parse([*arguments.split(), "--sysfs", str(sysfs)], {"XTRACE_HOST": "n1"}, "1")
    with (tmp_path / "output").open("wb") as file:
        monkeypatch.setattr(assembly, "STDOUT", file.fileno())
        assert assembly.run(config, "1", stop) == 0
    return (tmp_path / "output").read_text()


def test_records_of_a_run(sysfs: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = records(run("-m rdma -o json -t 100ms -c 2", sysfs, stop, monkeypatch, tmp_path).encode())
    validate(lines)
    assert [line["type"] for line in lines] == ["start", *2 * ["rdma_port", "rdma_port", "rdma_rails"], "end"]
    assert lines[0]["modes"] == ["rdma"] and "hooks" not in lines[0]
    assert [line["interface"] for line in lines[1:3]] == ["ens0", "ens1"]


def test_devices_chosen_by_name_and_excluded(
    sysfs: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = "-m rdma -d mlx5_* --exclude-device mlx5_0 -o json -t 100ms -c 1"
    lines = records(run(arguments, sysfs, stop, monkeypatch, tmp_path).encode())
    assert [line["device"] for line in lines if line["type"] == "rdma_port"] == ["mlx5_1"]


def test_list_as_table_and_records(sysfs: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = run("-l -m rdma", sysfs, stop, monkeypatch, tmp_path).splitlines()
    assert table[0].split()[:4] == ["DEVICE", "PORT", "INTERFACE", "STATE"]
    assert [line.split()[0] for line in table[1:]] == ["mlx5_0", "mlx5_1"]
    lines = records(run("-l -m rdma -o json", sysfs, stop, monkeypatch, tmp_path).encode())
    validate(lines)
    assert [line["type"] for line in lines] == 2 * ["rdma_link"]


def test_wrong_device_and_wrong_directory_are_errors_with_their_exit_codes(
    sysfs: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RdmaError, match=r"\(available: mlx5_0/1 on ens0") as unknown:
        run("-m rdma -d mlx5_9", sysfs, stop, monkeypatch, tmp_path)
    assert unknown.value.exit_code == 1
    with pytest.raises(UsageError, match="no such directory") as missing:
        run("-m rdma", tmp_path / "nothing", stop, monkeypatch, tmp_path)
    assert missing.value.exit_code == 2
    with pytest.raises(UsageError, match="not a proc file system: stat not found in it"):
        run(f"-m rdma --procfs {tmp_path}", sysfs, stop, monkeypatch, tmp_path)
