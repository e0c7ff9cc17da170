"""Cells and details of the panes with few rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.make_rdma import grew, port, traffic
from tests.unit.make_rdma import snapshot as rdma_snapshot
from tests.unit.make_tcp import connection
from tests.unit.make_tcp import snapshot as tcp_snapshot
from tests.unit.sinks.live.test_live import nccl_interval
from xtrace.kernel.syscall import lib
from xtrace.model.nccl import Communicator
from xtrace.model.rdma import PortId
from xtrace.model.words import Direction, Health
from xtrace.sinks.live.connections import ConnectionPane
from xtrace.sinks.live.jobs import JobPane
from xtrace.sinks.live.pane import View, frequency
from xtrace.sinks.live.panes import PANES
from xtrace.sinks.live.ports import PortPane

VIEW = View()


def table(pane: Any, view: View = VIEW, order: int = 0) -> list[list[str]]:
    """Headings and rows."""
    rows = [pane.row(entry, view).cells for entry in pane.entries(view, pane.orders[order])]
    return [[column.heading for column in pane.columns(view)], *([str(cell).strip() for cell in row] for row in rows)]


def shown(pane: Any, snapshot: Any) -> Any:
    pane.note(snapshot)
    pane.take(snapshot)
    return pane


@pytest.mark.parametrize("number, text", [(0, "0 "), (0.04, "0.0 "), (0.2, "0.2 "), (9.94, "9.9 "), (10, "10 ")])
def test_what_happens_seldom_has_a_decimal(number: float, text: str) -> None:
    assert frequency(number) == text


def test_columns_and_cells_agree_in_every_pane_and_direction() -> None:
    for place in PANES:
        pane = place.make()
        assert pane.mode == place.mode and pane.summary(VIEW) == "" and pane.size() == 0
        assert len(set(pane.orders)) == len(pane.orders) > 1
        sorted_by = {column.order for column in pane.columns(VIEW)} - {""}
        assert sorted_by == set(pane.orders)


def test_ports() -> None:
    busy = port({"out_of_sequence": grew(50)}, traffic(625_000_000, 1_250_000_000))
    down = replace(port({}, {}, where=PortId("mlx5_1", 1), state="DOWN"), health=Health.WARN, reasons=("port DOWN",))
    pane = shown(PortPane(), rdma_snapshot([down, busy]))
    assert table(pane) == [
        ["PORT", "RX BIT/S", "%", "TX BIT/S", "%", "CONGESTION", "LOSS", "STATE", "HEALTH", ""],
        ["mlx5_0/1", "1.0 G", "1", "2.0 G", "2", "-", "50", "ACTIVE", "ok", "eth0"],
        ["mlx5_1/1", "-", "-", "-", "-", "-", "-", "DOWN", "warn", "port DOWN"],
    ]
    assert [row[0] for row in table(pane, order=1)[1:]] == ["mlx5_1/1", "mlx5_0/1"]
    only_sent = View(way=Direction.EGRESS, in_bits=False)
    assert table(pane, only_sent)[:2] == [
        ["PORT", "TX BYTE/S", "%", "CONGESTION", "LOSS", "STATE", "HEALTH", ""],
        ["mlx5_0/1", "250.0 M", "2", "-", "50", "ACTIVE", "ok", "eth0"],
    ]
    assert [series.title for series in pane.detail(busy.id, only_sent).series] == ["tx"]
    assert [list(series.rates) for series in pane.detail(busy.id, VIEW).series] == [[125_000_000], [250_000_000]]
    assert pane.detail(down.id, VIEW).series == []
    assert pane.detail(PortId("mlx5_9", 1), VIEW).lines == ["mlx5_9/1 is not there now"]


def test_connections() -> None:
    grown = {lib.TCP_BYTES_ACKED: 600_000, lib.TCP_BYTES_RECEIVED: 400_000, lib.TCP_RETRANSMITTED: 31}
    bad = connection(grown, {lib.TCP_RTT: 300}, health=Health.CRITICAL, reasons=("3.1 % retransmitted",))
    well = connection(grown, {}, cookie=3, remote=("fd00::1", 5))
    pane = shown(ConnectionPane(), tcp_snapshot(well, bad))
    assert table(pane) == [
        ["LOCAL", "REMOTE", "BIT/S", "AGAIN", "RTT", "HEALTH", ""],
        ["10.0.0.2:40000", "10.0.0.1:443", "1.6 M", "31", "0.3ms", "critical", "3.1 % retransmitted"],
    ]
    detail = pane.detail(bad.sample.ends, VIEW)
    assert list(detail.series[0].rates) == [200_000]
    # it is not in trouble, so its history has not begun
    assert list(pane.detail(well.sample.ends, VIEW).series[0].rates) == []
    gone = pane.detail((bytes(16), 0, bytes(16), 0), VIEW)
    assert gone.lines == ["nothing happened on it in this interval"]


def test_jobs() -> None:
    pane = shown(JobPane(), nccl_interval())
    assert table(pane, order=2) == [
        ["JOB", "PID", "RANK", "STATE", "CALLS/S", "BIT/S", "NIC RX", "NIC TX", "ERRORS", "COMMAND"],
        ["slurm:7", "4711", "0/2", "waits", "2.0", "1.6 M", "-", "-", "0", "python3 train.py"],
        ["slurm:7", "4712", "1/2", "STOPPED", "2.0", "1.6 M", "-", "-", "0", "python3 train.py"],
    ]
    assert list(pane.detail(4711, VIEW).series[0].rates) == [200_000]
    assert pane.detail(99, VIEW).lines == ["process 99 made no calls in this interval"]
    quiet = replace(nccl_interval(), verdicts=())
    assert shown(JobPane(), quiet).summary(VIEW) == "calls: 20, processes that made none: 1"


def test_a_process_with_several_communicators_shows_its_rank_in_the_largest() -> None:
    interval = nccl_interval()
    first = interval.processes[0]
    small, unknown = Communicator(1, 2, 1, None, ()), Communicator(2, None, None, None, ())
    large = Communicator(3, 64, 17, None, first.communicators[0].operations)
    process = replace(first, communicators=(small, large, unknown))
    pane = shown(JobPane(), replace(interval, processes=(process,)))
    assert table(pane)[1][2] == "17/64 +2"
