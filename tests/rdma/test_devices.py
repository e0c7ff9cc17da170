"""Devices that come and go, the list, wrong names: on the real kernel."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.rdma.pair import DEVICE, TOOL, Tool, wait_until
from tests.support.schema import validate

SECOND = "rxe9"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOOL, *words], capture_output=True, text=True)


def link(*words: str) -> None:
    subprocess.run(["rdma", "link", *words], check=True)


def test_list_shows_the_port_with_its_interface_state_and_driver() -> None:
    table = run("-l", "-m", "rdma")
    assert table.returncode == 0, table.stderr
    heading, row = (line.split() for line in table.stdout.splitlines())
    assert heading[:5] == ["DEVICE", "PORT", "INTERFACE", "STATE", "LINK"]
    assert row[:6] == [DEVICE, "1", "eth0", "ACTIVE", "LINK_UP", "Ethernet"] and "rdma_rxe" in row
    (record,) = map(json.loads, run("-l", "-m", "rdma", "-o", "json").stdout.splitlines())
    validate([record])
    assert (record["device"], record["interface"], record["driver"]) == (DEVICE, "eth0", "rdma_rxe")


def test_unknown_device_is_one_line_with_the_available_ones() -> None:
    done = run("-m", "rdma", "-d", "mlx5_7", "-c", "1", "-t", "100ms")
    assert done.returncode == 1
    assert done.stderr == f"xtrace-catch: RDMA device mlx5_7 not found (available: {DEVICE}/1 on eth0)\n"


def test_device_names_the_interface_that_mode_xdp_watches(tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-d", DEVICE, "-t", "200ms")
    (start,) = tool.records("start")
    assert {hook["interface"] for hook in start["hooks"]} == {"eth0"}
    tool.stop()


def test_appearing_and_disappearing_device_is_followed(tmp_path: Path) -> None:
    subprocess.run(["ip", "link", "add", "veth9", "type", "veth", "peer", "name", "veth8"], check=True)
    subprocess.run(["ip", "link", "set", "veth9", "up"], check=True)
    tool = Tool(tmp_path, "-m", "rdma", "-t", "200ms")
    try:
        link("add", SECOND, "type", "rxe", "netdev", "veth9")
        wait_until(lambda: SECOND in {r["device"] for r in tool.records("rdma_port")}, "record of the new device")
        first = next(r for r in tool.records("rdma_port") if r["device"] == SECOND)
        assert first["interval_s"] is None and first["rx_packets"] is None, "no rate from the first reading"
        assert first["interface"] == "veth9"
        link("delete", SECOND)
        wait_until(lambda: "is gone" in tool.errors.read_text(), "word of its end")
        before = len(tool.records("rdma_port"))
        wait_until(lambda: len(tool.records("rdma_port")) > before, "further intervals")
        wait_until(lambda: len(tool.records("rdma_port")) > before + 1, "a whole interval")
        left = {r["device"]: r["unavailable"] for r in tool.records("rdma_port")[before:]}
        assert left == {DEVICE: None, SECOND: "the RDMA device is gone"}
    finally:
        subprocess.run(["ip", "link", "delete", "veth9"], check=True)
        stderr = tool.stop()
    said = [line for line in stderr.splitlines() if "no answer within" not in line]  # by a guest that is slow
    assert said == [f"{SECOND}/1: RDMA device appeared", f"{SECOND}/1: the RDMA device is gone"]
    validate(tool.records("rdma_port"))
