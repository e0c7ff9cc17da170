"""A monitor has the name of its mode, and so have its snapshots, by which their renderers are found."""

from __future__ import annotations

import pytest

from xtrace.model.flow import FlowSnapshot
from xtrace.model.nccl import NcclSnapshot
from xtrace.model.rdma import RdmaSnapshot
from xtrace.model.snapshot import Snapshot
from xtrace.model.tcp import TcpSnapshot
from xtrace.monitors.flows.monitor import XdpMonitor
from xtrace.monitors.nccl.monitor import NcclMonitor
from xtrace.monitors.rdma.monitor import RdmaMonitor
from xtrace.monitors.tcp.monitor import TcpMonitor
from xtrace.sinks.registry import KINDS


@pytest.mark.parametrize(
    "mode, monitor, snapshot",
    [
        ("xdp", XdpMonitor, FlowSnapshot),
        ("tcp", TcpMonitor, TcpSnapshot),
        ("rdma", RdmaMonitor, RdmaSnapshot),
        ("nccl", NcclMonitor, NcclSnapshot),
    ],
)
def test_monitor_and_snapshots_are_of_one_mode(mode: str, monitor: type, snapshot: type[Snapshot]) -> None:
    assert monitor.mode == snapshot.mode == mode  # type: ignore[attr-defined]
    assert mode in KINDS
