"""Mode rdma as text and JSON: what people read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.make import ETH0, flow, roce
from tests.unit.make import snapshot as flow_snapshot
from tests.unit.make_rdma import MLX5, grew, pair, port, snapshot, traffic
from xtrace.model.flow import Origin
from xtrace.model.rdma import BlindSpot, PortId, PortRecord, Process, Rails, Reading
from xtrace.model.rdma_health import judge
from xtrace.model.rdma_limits import LIMITS
from xtrace.model.words import Direction
from xtrace.sinks.jsonl.rdma import rdma_records
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text.rdma import rdma_lines
from xtrace.sinks.text.sink import Text
from xtrace.sinks.text.units import scaled

BUSY = judge(
    port(
        {"local_ack_timeout_err": grew(12), "out_of_sequence": grew(0), "np_cnp_sent": grew(50)},
        {**traffic(62_500_000_000, 6_250_000, 61_035_156, 10_000), "link_downed": Reading(255, None, "saturated")},
    ),
    LIMITS,
    was_active=True,
)


def lines(*ports: PortRecord) -> list[str]:
    return "".join(rdma_lines(snapshot(ports))).splitlines()


def test_block_of_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)
    assert lines(BUSY) == [
        "mlx5_0/1 00:00:05 5.0s ACTIVE LINK_UP Ethernet 100 Gb/sec (4X EDR) eth0 mlx5_core 0000:3b:00.0 numa=0"
        " critical",
        "  rx 100.0 Gbit/s 100.0 % of line rate, 12.2 Mpackets/s, mean 1024 B, total 4000000 bytes 1000000 packets",
        "  tx 10.0 Mbit/s 0.0 % of line rate, 2.0 kpackets/s, mean 625 B, total 4000000 bytes 1000000 packets",
        "  congestion: cnp_tx=50 (0.8/M) [np_cnp_sent]",
        "  loss: ack_timeout=12 (1200.0/M) [local_ack_timeout_err], 1 unchanged",
        "  link: link_downed=saturated at 255 [link_downed]",
        "  critical: local ACK timeouts 12 in 5 s; link_downed saturated at 255: reset it to count again",
    ]


def test_driver_that_counts_no_bytes_shows_a_dash_and_no_zero() -> None:
    shown = lines(port({"rcvd_pkts": grew(500, 900), "sent_pkts": grew(0, 5)}))
    assert shown[1] == "  rx - bit/s, 100 packets/s, total - bytes 900 packets"


def test_unreadable_port_shows_the_reason_and_no_figures() -> None:
    shown = lines(judge(port(unavailable="counters: EINVAL"), LIMITS, was_active=False))
    assert shown[1:] == ["  critical: unavailable: counters: EINVAL"]


@pytest.mark.parametrize(
    "reading, text",
    [
        (Reading(None, None, "unavailable", "EINVAL"), "ack_timeout=unavailable"),
        (Reading(5, None, "first"), "ack_timeout=first, total 5"),
        (Reading(5, None, "reset"), "ack_timeout=reset, total 5"),
        (Reading(1 << 32, 3, "wrapped"), "ack_timeout=3"),
    ],
)
def test_unknown_growth_is_shown_in_words(reading: Reading, text: str) -> None:
    assert f"  loss: {text} [local_ack_timeout_err]" in lines(port({"local_ack_timeout_err": reading}))


def test_processes_queue_pairs_and_rails() -> None:
    kernels = pair(1, None, kind="GSI", process=Process(None, "[ib_core]"))
    pairs = [
        pair(17, 18, address="10.0.0.2"),
        pair(19, 20, state="RTR"),
        kernels,
        pair(21, None, process=Process(None, "")),
    ]
    rendered = snapshot([], pairs, Rails(2, 1.25, (PortId("mlx5_1", 1),)))
    shown = "".join(rdma_lines(rendered)).splitlines()
    assert shown[:3] == [
        "mlx5_0 pid=434 ib_write_bw queue_pairs=2 RTS=1 RTR=1 container=0123456789ab",
        "mlx5_0 pid=- [ib_core] queue_pairs=1 RTS=1",
        "mlx5_0 pid=- ? queue_pairs=1 RTS=1",
    ]
    assert shown[3] == "mlx5_0/1 qp 17 RC RTS -> 18 10.0.0.2 pid=434 ib_write_bw"
    assert shown[-1].endswith("ports=2 imbalance=1.25 idle=mlx5_1/1 down=- ok")
    without = "".join(rdma_lines(replace(rendered, every_queue_pair=False)))
    assert " qp 17 " not in without


PORT = (PortId("mlx5_1", 1),)


@pytest.mark.parametrize(
    "rails, is_told",
    [
        (Rails(2, 1.25), True),
        (Rails(1, None), False),
        (Rails(0, None, down=PORT), False),
        (Rails(1, None, down=PORT), False),
        (Rails(2, None, down=PORT), True),
        (Rails(0, None, unavailable=PORT), True),
    ],
)
def test_rails_have_a_line_where_there_are_several_or_one_is_lost(rails: Rails, is_told: bool) -> None:
    """One port beside one that is down is the usual dual-port card with one cable."""
    assert any(line.startswith("rails ") for line in rdma_lines(snapshot(rails=rails))) is is_told


@pytest.mark.parametrize(
    "number, text", [(0, "0 "), (999, "999 "), (1000, "1.0 k"), (97.23e9, "97.2 G"), (2e15, "2000.0 T")]
)
def test_numbers_with_units(number: float, text: str) -> None:
    assert scaled(number) == text


def test_json_has_what_the_hook_missed_only_where_it_looked() -> None:
    shown = replace(snapshot([port()]), blind_spots=(BlindSpot(MLX5, "eth0", Direction.INGRESS, "bytes", 1000, 30),))
    record = next(rdma_records(shown, {"host": "n1"}))
    assert record["rx_invisible"] == 0.97 and "tx_invisible" not in record


def test_blind_spot_is_one_plain_sentence() -> None:
    assert str(BlindSpot(MLX5, "eth0", Direction.INGRESS, "bytes", 1000, 30)) == (
        "97 % of what mlx5_0/1 received is invisible on eth0: offloaded to hardware; -m rdma shows it"
    )
    assert BlindSpot(MLX5, "eth0", Direction.INGRESS, "bytes", 1000, 1014).invisible == 0, "frames have link headers"


def test_text_sink_renders_both_kinds(output: tuple[OutputStream, Callable[[], bytes]]) -> None:
    stream, contents = output
    sink = Text(stream)
    key = roce(4, dst_qpn=17)
    flows = flow_snapshot([flow(key)])
    sink.write(replace(flows, find_origin=lambda interface, key: Origin(18, 434, "ib_write_bw")))
    sink.write(snapshot([port()]))
    text = contents().decode()
    assert text.startswith("18:0 -> 17:0 proto=4 ")
    assert f"{ETH0.name} 10.0.0.1 -> 10.0.0.2 pid=434 ib_write_bw\n" in text
    assert "\nmlx5_0/1 " in text
