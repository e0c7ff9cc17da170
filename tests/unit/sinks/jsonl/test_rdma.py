"""Records of mode rdma: every field of one interval, with values that are all different."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.support.schema import validate
from tests.unit.make import BOOT, NS
from tests.unit.make_rdma import MLX5, grew, pair, port, snapshot
from xtrace.model.rdma import BlindSpot, PortId, Process, QueuePairRecord, QueuePairs, Rails, RdmaSnapshot, Reading
from xtrace.model.snapshot import Setup
from xtrace.model.words import Direction, Health
from xtrace.sinks.jsonl.rdma import RdmaJson
from xtrace.sinks.kinds import JsonOptions

Record = dict[str, Any]

AT = {"ts": "2026-01-01T00:00:05.000Z", "host": "n1"}
MLX5_1 = PortId("mlx5_1", 2)


def written(interval: RdmaSnapshot) -> list[Record]:
    lines = b"".join(RdmaJson(JsonOptions({"host": "n1"}, 0)).lines(interval)).splitlines()
    found = [json.loads(line) for line in lines]
    validate(found)
    return found


def test_port_has_rates_shares_and_figures_per_million_packets_of_their_direction() -> None:
    """In 2.5 s 250 MB came and 25 MB left, 200,000 and 30,000 packets, on a line of 10 Gbit/s."""
    standard = {
        "port_rcv_data": grew(62_500_000, 1000),
        "port_xmit_data": grew(6_250_000, 2000),
        "port_rcv_packets": grew(200_000, 300_000),
        "port_xmit_packets": grew(30_000, 40_000),
        "port_xmit_wait": grew(77, 78),
        "symbol_error": Reading(None, None, "unavailable", "EINVAL"),
    }
    hardware = {"np_cnp_sent": grew(50, 60), "local_ack_timeout_err": grew(13, 14)}
    interval_ns = 2_500_400_000
    made = port(hardware, standard, interval_ns=interval_ns, rate_bps=10**10, ethernet={"rx_prio0_pause": grew(5, 6)})
    spots = (
        BlindSpot(MLX5, "eth0", Direction.INGRESS, "bytes", 300_000, 100_000),
        BlindSpot(MLX5, "eth0", Direction.EGRESS, "bytes", 8, 7),
        BlindSpot(MLX5_1, "eth1", Direction.EGRESS, "bytes", 8, 0),
    )
    record, _ = written(replace(snapshot([made]), blind_spots=spots))
    figures = {name: record["figures"].pop(name) for name in ("cnp_tx", "ack_timeout", "xmit_wait", "rx_bytes")}
    assert figures["cnp_tx"] == {
        "total": 60,
        "delta": 50,
        "status": "ok",
        "names": ["np_cnp_sent"],
        "per_million": 250.0,
    }
    assert figures["ack_timeout"]["per_million"] == 433.333
    assert "per_million" not in figures["xmit_wait"], "ticks, not events"
    assert "per_million" not in figures["rx_bytes"]
    assert (figures["rx_bytes"]["total"], figures["rx_bytes"]["delta"]) == (4000, 250_000_000)
    seconds = interval_ns / 1e9
    traffic = ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets")
    assert [record[name] for name in traffic] == [250_000_000, 25_000_000, 200_000, 30_000]
    assert (record["rx_bps"], record["tx_bps"]) == (round(2e9 / seconds), round(2e8 / seconds))
    assert (record["rx_pps"], record["tx_pps"]) == (round(200_000 / seconds, 1), round(30_000 / seconds, 1))
    assert (record["rx_share"], record["tx_share"]) == (round(0.2 / seconds, 6), round(0.02 / seconds, 6))
    assert (record["rx_invisible"], record["tx_invisible"]) == (0.6667, 0.125)
    assert record["interval_s"] == 2.5
    assert record["hw_counters"]["np_cnp_sent"] == {"total": 60, "delta": 50, "status": "ok"}
    assert record["counters"]["symbol_error"] == {
        "total": None,
        "delta": None,
        "status": "unavailable",
        "reason": "EINVAL",
    }
    assert record["ethernet"] == {"rx_prio0_pause": {"total": 6, "delta": 5, "status": "ok"}}
    described = ("type", "ts", "host", "device", "port", "state", "physical_state", "link_layer", "rate", "rate_bps")
    assert [record[name] for name in described] == [
        *("rdma_port", AT["ts"], "n1", "mlx5_0", 1, "ACTIVE", "LINK_UP", "Ethernet", "100 Gb/sec (4X EDR)", 10**10)
    ]
    rest = ("interface", "driver", "firmware", "pci", "numa_node", "lid", "health", "reasons", "unavailable")
    assert [record[name] for name in rest] == [
        *("eth0", "mlx5_core", "28.39.1002", "0000:3b:00.0", 0, None, "ok", [], None)
    ]


def test_first_record_of_a_port_has_totals_and_nothing_that_needs_two_readings() -> None:
    first = port({"np_cnp_sent": Reading(60, None, "first")}, interval_ns=None)
    record, _ = written(snapshot([first]))
    assert record["interval_s"] is None
    names = ("rx_bytes", "tx_packets", "rx_bps", "tx_pps", "rx_share")
    assert {record[name] for name in names} == {None}
    assert record["figures"]["cnp_tx"] == {
        "total": 60,
        "delta": None,
        "status": "first",
        "names": ["np_cnp_sent"],
        "per_million": None,
    }


def test_unreadable_port_says_why() -> None:
    unread, uncounted = port(unavailable="counters: EINVAL"), replace(port(), uncounted="no counters")
    records = written(snapshot([unread, uncounted]))
    assert [record["unavailable"] for record in records[:2]] == ["counters: EINVAL", "no counters"]


PEER = Process(77, "ib_read_lat", None)


def test_queue_pairs_are_told_by_owner_and_each_if_asked_for() -> None:
    pairs = [
        pair(17, 18, address="192.0.2.1"),
        pair(19, None, kind="UD", state="INIT"),
        pair(21, 22, where=PortId("mlx5_1", 0), process=PEER),
    ]
    first, second, *each, _ = written(snapshot(pairs=pairs))
    assert first == {
        "type": "rdma_process",
        **AT,
        "device": "mlx5_0",
        "pid": 434,
        "command": "ib_write_bw",
        "container": "0123456789ab" + 52 * "0",
        "queue_pairs": 2,
        "states": {"RTS": 1, "INIT": 1},
        "types": {"RC": 1, "UD": 1},
    }
    assert (second["device"], second["pid"], second["queue_pairs"]) == ("mlx5_1", 77, 1)
    assert each[0] == {
        "type": "rdma_qp",
        **AT,
        "device": "mlx5_0",
        "port": 1,
        "qpn": 17,
        "qp_type": "RC",
        "state": "RTS",
        "remote_qpn": 18,
        "remote_ip": "192.0.2.1",
        "pid": 434,
        "command": "ib_write_bw",
        "container": "0123456789ab" + 52 * "0",
    }
    assert [(record["qpn"], record["port"], record["remote_qpn"], record["command"]) for record in each] == [
        *((17, 1, 18, "ib_write_bw"), (19, 1, None, "ib_write_bw"), (21, None, 22, "ib_read_lat"))
    ]
    assert [record["type"] for record in written(snapshot(pairs=pairs, qps=False))] == [
        *("rdma_process", "rdma_process", "rdma_rails")
    ]


def test_rails_name_the_ports_that_are_idle_down_and_unreadable() -> None:
    rails = Rails(
        5, 1.23456, (PortId("a", 1),), (PortId("b", 2), PortId("c", 3)), (PortId("d", 4),), Health.WARN, ("because",)
    )
    asked = QueuePairs((), BOOT + 4 * NS, ("mlx5_9: EIO",))
    (record,) = written(replace(snapshot(rails=rails), queue_pairs=asked, interval_ns=2_500_400_000))
    assert record == {
        "type": "rdma_rails",
        **AT,
        "interval_s": 2.5,
        "ports": 5,
        "imbalance": 1.235,
        "idle": ["a/1"],
        "down": ["b/2", "c/3"],
        "unavailable": ["d/4"],
        "health": "warn",
        "reasons": ["because"],
        "queue_pairs_ts": "2026-01-01T00:00:04.000Z",
        "queue_pairs_unavailable": ["mlx5_9: EIO"],
    }


def test_before_a_round_has_ended_queue_pairs_have_no_time() -> None:
    (record,) = written(replace(snapshot(), queue_pairs=QueuePairs()))
    assert (record["queue_pairs_ts"], record["imbalance"]) == (None, None)


def test_mode_adds_nothing_to_start_and_end() -> None:
    kind = RdmaJson(JsonOptions({}, 0))
    assert (kind.setup(Setup()), kind.totals(None)) == ({}, {})


def test_owners_of_most_queue_pairs_come_first_then_by_device_and_pid() -> None:
    def of(device: str, pid: int | None, count: int) -> list[QueuePairRecord]:
        where = PortId(device, 1)
        return [pair(number, where=where, process=Process(pid, f"job{pid}")) for number in range(count)]

    pairs = [*of("b", 5, 1), *of("a", 9, 1), *of("a", 2, 1), *of("a", None, 1), *of("c", 1, 2), *of("b", 3, 1)]
    found = [(record["device"], record["pid"]) for record in written(snapshot(pairs=pairs, qps=False))[:-1]]
    assert found == [("c", 1), ("a", None), ("a", 2), ("a", 9), ("b", 3), ("b", 5)]
