"""Modes together: one that is slow to read costs the others no interval."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.nccl.jobs import job, operations, total, wait_for_probes, watching
from tests.netns.tool import LIMIT_S
from tests.support.net import of_type
from tests.unit.make_rdma import counters, device
from xtrace.monitors.rdma.inventory import open_netlink

INTERVALS = 4
LONGEST_S = 0.9
"""Of an interval of half a second, on a busy machine. The port would make each take as long as it does not answer."""


@pytest.fixture(autouse=True)
def only_sysfs() -> None:
    """These tests play a port by a tree of sysfs, which nobody reads where netlink lists the devices."""
    netlink = open_netlink()
    if netlink is not None:
        netlink.close()
        pytest.skip("this kernel has RDMA netlink")


def test_a_port_that_does_not_answer_costs_the_other_modes_no_interval(tmp_path: Path) -> None:
    made = device(tmp_path / "sys", "mlx5_0", driver="mlx5_core", netdevs=["ens0"])
    counters(made, kind="counters", port_rcv_data=1, port_xmit_data=2, port_rcv_packets=3, port_xmit_packets=4)
    counter, silent = made / "ports/1/counters/port_rcv_data", tmp_path / "silent"
    os.mkfifo(silent)
    arguments = ("-m", "xdp,rdma,nccl", "-i", "lo", "--hook", "tc", "-t", "500ms", "--sysfs", str(tmp_path / "sys"))
    with job() as process, watching(*arguments, stdout=subprocess.PIPE) as tool:
        wait_for_probes(tool)
        tool.wait_until_it_prints(b'"type":"rdma_port"')
        silent.rename(counter)  # opening it waits for a writer
        tool.wait_until_it_says(b"mode rdma: no answer within 0.25 s: its records come later and cover more time")
        for _ in range(INTERVALS):
            process.do("CommInitRank", "world", 2, 0)
            tool.wait_until_it_prints(b'"type":"nccl"')
        answer(counter)
        tool.wait_until_it_prints(b'"type":"rdma_port"')
        result = tool.stop()
    assert result.code == 0
    for kind in ("interface", "nccl"):
        # the first one has the start of the other modes in it
        intervals = [record["interval_s"] for record in of_type(result.records, kind)][1:]
        assert max(intervals) < LONGEST_S, kind
    late = max(record["interval_s"] for record in of_type(result.records, "rdma_port"))
    assert late > INTERVALS * 0.5 - LONGEST_S
    assert total(operations(result.records, process.pid), "calls") == INTERVALS
    silence = [record for record in of_type(result.records, "nccl_process") if record["devices"] is None]
    assert len(silence) >= INTERVALS - 1, "what the NICs carried then is not known"


def test_the_end_does_not_wait_for_a_port_that_does_not_answer(tmp_path: Path) -> None:
    made = device(tmp_path / "sys", "mlx5_0", driver="mlx5_core", netdevs=["ens0"])
    counters(made, kind="counters", port_rcv_data=1)
    counter, silent = made / "ports/1/counters/port_rcv_data", tmp_path / "silent"
    os.mkfifo(silent)
    arguments = ("-m", "rdma,nccl", "-t", "200ms", "--sysfs", str(tmp_path / "sys"))
    with watching(*arguments, stdout=subprocess.PIPE) as tool:
        tool.wait_until_it_prints(b'"type":"rdma_port"')
        silent.rename(counter)
        tool.wait_until_it_says(b"mode rdma: no answer within 0.1 s")
        begun = time.monotonic()
        result = tool.stop()
        took = time.monotonic() - begun
        answer(counter)
    assert result.code == 0
    assert result.records[-1]["type"] == "end"
    assert took < LIMIT_S / 10


def answer(counter: Path) -> None:
    """Let whoever waits for the counter read it, and make it a file again."""
    descriptor = os.open(counter, os.O_RDWR | os.O_NONBLOCK)
    try:
        counter.unlink()
        counter.write_text("5\n")
        os.write(descriptor, b"5\n")
    finally:
        os.close(descriptor)
