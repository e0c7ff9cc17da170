"""Cells and details of the panes with few rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.make import BOOT, NS
from tests.unit.make_paths import key, path, sent
from tests.unit.make_paths import snapshot as path_snapshot
from tests.unit.make_paths import sums as path_sums
from tests.unit.make_rdma import grew, port, traffic
from tests.unit.make_rdma import snapshot as rdma_snapshot
from tests.unit.make_tcp import SEEN, connection
from tests.unit.make_tcp import snapshot as tcp_snapshot
from tests.unit.sinks.live.test_live import nccl_interval
from xtrace.kernel.syscall import lib
from xtrace.model.nccl import Communicator, Counters, NcclProcess, NicTraffic, Operation
from xtrace.model.nccl_ranks import Job, Rank
from xtrace.model.rdma import PortId, Rails
from xtrace.model.rdma_counters import CONGESTION, LOSS
from xtrace.model.words import Direction, Health
from xtrace.sinks.live.connections import ConnectionPane
from xtrace.sinks.live.jobs import JobPane
from xtrace.sinks.live.pane import View, frequency
from xtrace.sinks.live.panes import PANES
from xtrace.sinks.live.paths import PathPane
from xtrace.sinks.live.ports import PortPane
from xtrace.sinks.live.words import matcher

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
    detail = pane.detail(pane.key(bad), VIEW)
    assert list(detail.series[0].rates) == [200_000]
    # it is not in trouble, so its history has not begun
    assert list(pane.detail(pane.key(well), VIEW).series[0].rates) == []
    gone = pane.detail((7, (bytes(16), 0, bytes(16), 0)), VIEW)
    assert gone.lines == ["nothing happened on it in this interval"]


def test_connections_of_two_namespaces_with_the_same_addresses_are_apart() -> None:
    made = [
        connection({lib.TCP_BYTES_ACKED: size}, {}, health=Health.WARN, reasons=(reason,))._replace(netns=netns)
        for netns, size, reason in ((7, 500_000, "one"), (8, 1_000_000, "two"))
    ]
    pane = shown(ConnectionPane(), tcp_snapshot(*made))
    for entry, reason, rate in zip(made, ("  one", "  two"), (100_000, 200_000), strict=True):
        detail = pane.detail(pane.key(entry), VIEW)
        assert reason in detail.lines and list(detail.series[0].rates) == [rate]


def test_connections_by_their_packets() -> None:
    forward = sent(packets=900, data_packets=800, bytes=600_000, retransmitted_packets=31, retransmitted_bytes=45_000)
    forward = forward._replace(late_packets=2, gaps=2)
    reverse = sent(Direction.EGRESS, packets=400, bytes=400_000, closed_ticks=100, zero_windows=3, is_closed=True)
    reasons = ("-> 3.9 % retransmitted (31 of 800 data packets)", "<- window closed 20 % of the interval")
    bad = path(forward, reverse, health=Health.WARN, reasons=reasons, client_ns=25_000, server_ns=20_300_000)
    well = path(sent(bytes=7), key=key(5), src_port=5)
    pane = shown(PathPane(), path_snapshot(well, bad, of=(path_sums(retransmitted_packets=31),)))
    assert table(pane) == [
        ["INTERFACE", "SOURCE", "DESTINATION", "BIT/S", "AGAIN", "LATE", "RTT", "HEALTH", ""],
        ["eth0", "10.0.0.1:40000", "10.0.0.2:443", "4.0 M", "31", "2", "20.3ms", "warn", "; ".join(reasons)],
    ]
    assert pane.summary(VIEW).startswith("eth0 connections=2 ") and "retransmitted=31" in pane.summary(VIEW)
    detail = pane.detail(pane.key(bad), VIEW)
    assert detail.lines[1:] == [
        *(f"  {reason}" for reason in reasons),
        "-> in: 900 packets, 600.0 kB of payload",
        "   retransmitted 31, 45.0 kB; late 2, 0 B; gaps 2",
        "<- out: 400 packets, 400.0 kB of payload",
        "   zero windows 3; window closed for 0.4 s, now too",
    ]
    assert list(detail.series[0].rates) == [500_000]
    assert list(pane.detail(pane.key(well), VIEW).series[0].rates) == []
    lines = pane.detail(pane.key(well), VIEW).lines
    assert lines[-3:] == ["-> in: 0 packets, 7 B of payload", "   nothing was sent twice, or late", "<- not seen"]
    assert pane.detail(key(9), VIEW).lines == ["nothing happened on it in this interval"]


def test_connections_by_their_packets_are_sorted_and_selected() -> None:
    made = [
        path(
            sent(bytes=size, retransmitted_packets=again, late_packets=late),
            sent(bytes=1, retransmitted_packets=again, late_packets=late),
            src_port=port,
            key=key(port),
            health=health,
            interface=interface,
        )
        for port, size, again, late, health, interface in (
            (1, 30, 5, 1, Health.WARN, "eth0"),
            (2, 10, 0, 3, Health.CRITICAL, "eth0"),
            (3, 20, 9, 0, Health.WARN, "veth7"),
        )
    ]
    pane = shown(PathPane(), path_snapshot(*made, of=(path_sums(), replace(path_sums(), interface="veth7"))))

    def order(name: str, view: View = VIEW) -> list[int]:
        return [entry.src_port for entry in pane.entries(view, name)]

    assert {name: order(name) for name in pane.orders} == {
        "badness": [2, 3, 1],
        "rate": [1, 3, 2],
        "retransmitted": [3, 1, 2],
        "late": [2, 1, 3],
    }
    only = View(chosen=matcher("veth*"))
    assert order("rate", only) == [3] and pane.summary(only).startswith("veth7 ")
    assert order("rate", View(chosen=matcher("2"))) == [2] and order("rate", View(chosen=matcher("udp"))) == []


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
    no_rank, no_size = Communicator(4, 128, None, None, ()), Communicator(5, None, 3, None, ())
    large = Communicator(3, 64, 17, None, first.communicators[0].operations)
    process = replace(first, communicators=(small, large, unknown, no_rank, no_size))
    pane = shown(JobPane(), replace(interval, processes=(process,)))
    assert table(pane)[1][2] == "17/64 +4"
    alone = shown(JobPane(), replace(interval, processes=(replace(process, communicators=(large,)),)))
    assert table(alone)[1][2] == "17/64"
    nameless = shown(JobPane(), replace(interval, processes=(replace(process, communicators=(no_rank, no_size)),)))
    assert table(nameless)[1][2] == "-"


def test_connections_are_sorted_by_what_the_heading_says_and_unknown_is_least() -> None:
    retransmitted, acked, received = lib.TCP_RETRANSMITTED, lib.TCP_BYTES_ACKED, lib.TCP_BYTES_RECEIVED
    grown = {
        # badness, bytes of both directions, retransmitted
        1: (Health.WARN, {acked: 10, received: 5, retransmitted: 7}),
        2: (Health.CRITICAL, {acked: 3, received: 11, retransmitted: 0}),
        3: (Health.WARN, {acked: 16, received: 0, retransmitted: 9}),
    }
    made = [
        connection(grows, {}, cookie=number, local=("10.0.0.2", number), health=health)
        for number, (health, grows) in grown.items()
    ]
    unknown = connection(
        {received: 4}, {}, cookie=4, local=("10.0.0.2", 4), health=Health.WARN, unknown=(retransmitted, acked)
    )
    pane = shown(ConnectionPane(), tcp_snapshot(*made, unknown))

    def order(name: str) -> list[int]:
        return [entry.sample.local_port for entry in pane.entries(VIEW, name)]

    assert order("rate") == [3, 1, 2, 4]
    assert order("retransmitted") == [3, 1, 2, 4]
    assert order("badness")[0] == 2
    assert [row[3] for row in table(pane, order=pane.orders.index("retransmitted"))[1:]] == ["9", "7", "0", "-"]


def test_a_connections_detail_says_where_it_was_seen_and_what_failed() -> None:
    bad = connection({}, {}, health=Health.CRITICAL, reasons=("one", "two"), seen=SEEN)
    pane = shown(ConnectionPane(), tcp_snapshot(bad))
    lines = list(pane.detail(pane.key(bad), VIEW).lines)
    assert lines[1:6] == [
        "  one",
        "  two",
        "congestion control cubic",
        "eth0 out: 10 packets, 1.5 kB",
        "eth0 in: 5 packets, 330 B",
    ]
    assert "10.0.0.1:81" in lines[6] and "3" in lines[6]


def test_jobs_tell_those_that_ended_from_those_that_run() -> None:
    interval = nccl_interval()
    first, second, idle = interval.processes
    ended = replace(interval, processes=(first, replace(second, ended=True), idle), verdicts=())
    pane = shown(JobPane(), ended)
    assert [row[3] for row in table(pane, order=2)[1:]] == ["runs", "ended"]


def test_jobs_are_sorted_by_bytes_calls_and_job() -> None:
    interval = nccl_interval()

    def process(pid: int, calls: int, elements: int, seen_ns: int | None = None) -> NcclProcess:
        operations = (Operation("AllReduce", "bfloat16", 2 * elements, Counters(calls=calls)),)
        communicators = (Communicator(pid, 2, 0, 0, operations),)
        return NcclProcess(pid, "p", None, (), True, False, communicators, seen_ns=seen_ns)

    processes = (process(3, 10, 500), process(1, 5, 900), process(2, 1, 100, seen_ns=NS))
    ranks = (Rank("n1", 3, BOOT, job=Job("slurm:1"), communicator="c", rank=0, nranks=2),)
    pane = shown(JobPane(), replace(interval, processes=processes, ranks=ranks, verdicts=()))
    assert [entry.process.pid for entry in pane.entries(VIEW, "rate")] == [1, 3, 2]
    assert [entry.process.pid for entry in pane.entries(VIEW, "calls")] == [3, 1, 2]
    assert [entry.process.pid for entry in pane.entries(VIEW, "job")] == [1, 2, 3]
    cells = {row[1]: row[4:6] for row in table(pane)[1:]}
    # bfloat16 has two bytes; the last was seen for one second only
    assert cells == {"1": ["1.0", "2.9 k"], "3": ["2.0", "1.6 k"], "2": ["1.0", "1.6 k"]}


def test_jobs_of_another_than_the_culprit_wait_and_others_run() -> None:
    interval = nccl_interval()
    away = replace(interval.verdicts[0], communicator="another")
    pane = shown(JobPane(), replace(interval, verdicts=(away,)))
    assert [row[3] for row in table(pane, order=2)[1:]] == ["runs", "runs"]


def test_calls_of_a_process_without_probes_are_not_known() -> None:
    interval = nccl_interval()
    unseen = replace(interval.processes[0], probed=False, communicators=())
    pane = shown(JobPane(), replace(interval, processes=(unseen,), ranks=(), verdicts=()))
    assert table(pane)[1][:8] == ["-", "4711", "-", "runs", "-", "-", "-", "-"]


def test_the_nic_of_a_job_has_a_rate_per_direction() -> None:
    interval = nccl_interval()
    first = replace(interval.processes[0], nic=NicTraffic(("mlx5_0",), 4, tx_bytes=625_000, rx_bytes=5_000_000))
    pane = shown(JobPane(), replace(interval, processes=(first,), verdicts=()))
    rx, tx = table(pane)[0].index("NIC RX"), table(pane)[0].index("NIC TX")
    assert (table(pane)[1][rx], table(pane)[1][tx]) == ("8.0 M", "1.0 M")
    assert table(pane, View(way=Direction.EGRESS))[1][rx] == "1.0 M"
    assert [entry.process.pid for entry in pane.entries(View(chosen=matcher("-d mlx5_0")), "rate")] == [first.pid]
    assert list(pane.entries(View(chosen=matcher("-d mlx5_1")), "rate")) == []


def test_errors_of_calls_add_up_and_are_unknown_where_returns_are() -> None:
    interval = nccl_interval()
    results = (7, 0, 0, 2, 0, 0, 3, 1, 0, 0)  # success and what is in progress are no errors
    failed = Operation("AllReduce", "bfloat16", 1, Counters(calls=13, results=results))
    first = replace(interval.processes[0], communicators=(Communicator(1, 2, 0, 0, (failed, failed)),))
    for has_returns, text in ((True, "10"), (False, "-")):
        pane = shown(JobPane(), replace(interval, processes=(first,), verdicts=(), has_returns=has_returns))
        assert table(pane)[1][8] == text


def test_the_summary_of_ports_names_those_that_are_not_as_they_should() -> None:
    first, second, third, fourth = (PortId("mlx5_0", number) for number in range(1, 5))
    rails = Rails(4, 1.256, (first,), (second, third), (fourth,))
    pane = shown(PortPane(), rdma_snapshot([], rails=rails))
    assert pane.summary(VIEW) == (
        "active ports with traffic counters: 4, imbalance 1.26, idle mlx5_0/1, down mlx5_0/2 mlx5_0/3,"
        " unavailable mlx5_0/4"
    )
    pane = shown(PortPane(), rdma_snapshot([], rails=Rails(2, None)))
    assert pane.summary(VIEW) == "active ports with traffic counters: 2"


def test_what_ports_lost_and_how_often_they_were_congested_adds_up() -> None:
    lossy = port({"out_of_sequence": grew(50), "packet_seq_err": grew(7), "np_cnp_sent": grew(3)}, {})
    pane = shown(PortPane(), rdma_snapshot([lossy]))
    headings, row = table(pane)
    cells = dict(zip(headings, row, strict=False))
    known = {name: lossy.delta(name) or 0 for name in (*LOSS, *CONGESTION)}
    assert (cells["LOSS"], cells["CONGESTION"]) == ("57", "3")
    assert (sum(known[name] for name in LOSS), sum(known[name] for name in CONGESTION)) == (57, 3)


NUMBERS = {
    "flows": {"BIT/S", "PACKETS/S"},
    "owners": {"IN BIT/S", "OUT BIT/S", "PACKETS/S", "FLOWS"},
    "interfaces": {"IN BIT/S", "OUT BIT/S", "PACKETS/S", "FLOWS"},
    "TCP in trouble": {"BIT/S", "AGAIN", "RTT"},
    "TCP packets": {"BIT/S", "AGAIN", "LATE", "RTT"},
    "RDMA ports": {"RX BIT/S", "TX BIT/S", "%", "CONGESTION", "LOSS"},
    "NCCL jobs": {"PID", "CALLS/S", "BIT/S", "NIC RX", "NIC TX", "ERRORS"},
}
"""Headings of what stands at the right edge of its column, by the title of the pane."""


def test_numbers_stand_at_the_right_edge_and_words_at_the_left() -> None:
    found = {}
    for place in PANES:
        pane = place.make()
        found[pane.title] = {column.heading for column in pane.columns(VIEW) if column.is_number}
    assert found == NUMBERS
