"""Metrics of mode rdma: the hardware's totals; unknown values have no sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.unit.make_rdma import MLX5, grew, pair, port, snapshot, traffic
from tests.unit.make_samples import Value, flat
from xtrace.model.rdma import BlindSpot, PortId, PortRecord, Process, Rails, Reading
from xtrace.model.words import Direction, Health
from xtrace.options.labels import RESERVED_LABELS
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.rdma import DESCRIBED, MOST_COMMANDS, RdmaMetrics, rdma_samples
from xtrace.sinks.registry import KINDS

UNREADABLE = Reading(None, None, "unavailable", "EINVAL")


def samples(*ports: PortRecord) -> list[Value]:
    return flat(rdma_samples(snapshot(ports)))


def values(found: Iterable[Value], name: str) -> dict[tuple[str, ...], float]:
    """Values of one metric by the values of its labels."""
    return {tuple(text for _, text in sample.labels): sample.value for sample in found if sample.name == name}


def test_figures_are_counters_of_the_hardwares_totals() -> None:
    found = samples(port({"local_ack_timeout_err": grew(3, 70)}, traffic(4000, 8000)))
    (timeouts,) = (sample for sample in found if sample.name == "xtrace_rdma_ack_timeout_total")
    assert timeouts == ("xtrace_rdma_ack_timeout_total", (("device", "mlx5_0"), ("port", "1")), 70)
    assert DESCRIBED["xtrace_rdma_ack_timeout_total"].kind == "counter"
    assert values(found, "xtrace_rdma_rx_bytes_total") == {("mlx5_0", "1"): 4_000_000}


def test_unknown_counters_keep_the_drivers_name_and_known_ones_appear_once() -> None:
    found = samples(port({"rx_read_requests": grew(1, 9), "out_of_sequence": grew(1)}, {"VL15_dropped": grew(0, 2)}))
    assert values(found, "xtrace_rdma_driver_total") == {
        ("mlx5_0", "1", "hw", "rx_read_requests"): 9,
        ("mlx5_0", "1", "std", "VL15_dropped"): 2,
    }


def test_unavailable_counters_have_no_sample_but_are_counted() -> None:
    found = samples(port({"out_of_sequence": UNREADABLE, "other": UNREADABLE}))
    assert not values(found, "xtrace_rdma_rx_oos_total") and not values(found, "xtrace_rdma_driver_total")
    assert not values(found, "xtrace_rdma_bytes_per_second")
    assert values(found, "xtrace_rdma_unavailable_counters") == {("mlx5_0", "1"): 2}


def test_levels_are_gauges() -> None:
    found = samples(port({"active_qps": Reading(5, None, "gauge")}))
    assert values(found, "xtrace_rdma_level") == {("mlx5_0", "1", "active_qps"): 5}
    assert not values(found, "xtrace_rdma_driver_total")


def test_state_health_rate_and_share() -> None:
    record = replace(port(standard=traffic(62_500_000_000, 0)), health=Health.WARN)
    found = samples(record, port(where=PortId("mlx5_1", 1), state="DOWN", unavailable="counters: EINVAL"))
    assert values(found, "xtrace_rdma_port_active") == {("mlx5_0", "1"): 1, ("mlx5_1", "1"): 0}
    assert values(found, "xtrace_rdma_port_available") == {("mlx5_0", "1"): 1, ("mlx5_1", "1"): 0}
    assert values(found, "xtrace_rdma_port_health")["mlx5_0", "1"] == 1
    assert values(found, "xtrace_rdma_bytes_per_second") == {("mlx5_0", "1", "rx"): 12.5e9, ("mlx5_0", "1", "tx"): 0}
    assert values(found, "xtrace_rdma_line_rate_share")["mlx5_0", "1", "rx"] == 1
    assert values(found, "xtrace_rdma_rate_bytes_per_second")["mlx5_0", "1"] == 12.5e9


@pytest.mark.parametrize("state", ["INIT", "ARMED", "DOWN", "ACTIVE_DEFER"])
def test_port_in_transition_to_active_is_not_active(state: str) -> None:
    found = samples(port(standard=traffic(4, 4), state=state))
    assert values(found, "xtrace_rdma_port_active") == {("mlx5_0", "1"): 0}


def test_port_in_unknown_state_has_no_active_sample() -> None:
    record = port(standard=traffic(4, 4))
    unknown = replace(record, info=replace(record.info, state=None, rate_bps=None))
    assert not values(samples(unknown), "xtrace_rdma_port_active")
    assert values(samples(replace(unknown, gone=True)), "xtrace_rdma_port_active") == {("mlx5_0", "1"): 0}
    assert not values(samples(unknown), "xtrace_rdma_rate_bytes_per_second")


def test_unknown_counters_have_no_sample_of_any_kind() -> None:
    level = Reading(None, None, "gauge")
    hardware = {"rx_bytes": UNREADABLE, "y": UNREADABLE, "active_qps": level}
    found = samples(port(hardware, ethernet={"rx_pause": UNREADABLE}))
    assert all(sample.value is not None for sample in found)
    counted = ("_bytes_total", "_driver_total", "_ethernet_events_total", "_level")
    assert not [sample for sample in found if sample.name.endswith(counted)]


def test_saturated_counters_are_counted_without_the_one_of_ticks() -> None:
    full = {"symbol_error": Reading(65535, None, "saturated"), "link_downed": Reading(255, 3, "saturated")}
    ticks = {"port_xmit_wait": Reading((1 << 32) - 1, None, "saturated")}
    assert values(samples(port(standard={**full, **ticks})), "xtrace_rdma_saturated_counters") == {("mlx5_0", "1"): 2}
    found = samples(port({"x": UNREADABLE}, ticks))
    assert values(found, "xtrace_rdma_saturated_counters") == {("mlx5_0", "1"): 0}
    assert values(found, "xtrace_rdma_xmit_wait_total") == {("mlx5_0", "1"): (1 << 32) - 1}


def test_port_is_available_if_any_figure_is() -> None:
    one = samples(port({"out_of_sequence": UNREADABLE}, traffic(4, 4)))
    assert values(one, "xtrace_rdma_port_available") == {("mlx5_0", "1"): 1}
    for record in (port({"out_of_sequence": UNREADABLE, "x": grew(1)}), port({"x": grew(1)}), port()):
        assert values(samples(record), "xtrace_rdma_port_available") == {("mlx5_0", "1"): 0}


def test_queue_pairs_by_command_and_state_and_the_smallest_together() -> None:
    many = [pair(number, process=Process(number, f"job{number}")) for number in range(MOST_COMMANDS + 5)]
    found = values(flat(rdma_samples(snapshot([], many))), "xtrace_rdma_queue_pairs")
    assert len(found) == MOST_COMMANDS + 1
    assert found["mlx5_0", "other", "RTS"] == 5


def test_rails_and_blind_spots() -> None:
    rails = Rails(3, 1.5, (PortId("mlx5_2", 1),), (PortId("mlx5_3", 1), PortId("mlx5_4", 1)))
    spot = BlindSpot(MLX5, "eth0", Direction.INGRESS, "bytes", 1000, 30)
    found = flat(rdma_samples(replace(snapshot(rails=rails), blind_spots=(spot,))))
    assert values(found, "xtrace_rdma_rail_imbalance") == {(): 1.5}
    assert values(found, "xtrace_rdma_rails_idle") == {(): 1}
    assert values(found, "xtrace_rdma_rails_down") == {(): 2}
    assert values(found, "xtrace_rdma_invisible_share") == {("mlx5_0", "1", "rx"): 0.97}


def test_description_of_a_port_leaves_out_what_is_not_known() -> None:
    record = port(standard=traffic(4, 4), netdev=None)
    known = replace(record, info=replace(record.info, firmware="", numa_node=None))
    (info,) = (sample for sample in samples(known) if sample.name == "xtrace_rdma_port_info")
    assert info.value == 1
    assert info.labels == (
        *(("device", "mlx5_0"), ("port", "1"), ("driver", "mlx5_core")),
        *(("link_layer", "Ethernet"), ("pci", "0000:3b:00.0")),
    )


def test_shares_have_six_places_and_those_of_all_rails_four() -> None:
    """A third of 100 Gbit/s for 5 s."""
    found = samples(port(standard=traffic(20_833_333_332, 0)))
    assert values(found, "xtrace_rdma_line_rate_share")["mlx5_0", "1", "rx"] == 0.333333
    spot = BlindSpot(MLX5, "eth0", Direction.EGRESS, "bytes", 3, 2)
    whole = replace(snapshot(rails=Rails(3, 1.23456)), blind_spots=(spot,))
    made = flat(rdma_samples(whole))
    assert values(made, "xtrace_rdma_rail_imbalance") == {(): 1.2346}
    assert values(made, "xtrace_rdma_invisible_share") == {("mlx5_0", "1", "tx"): 0.3333}


def test_queue_pairs_of_unknown_processes_are_told_by_device_and_state() -> None:
    pairs = [pair(1, process=Process(None, "")), pair(2, process=Process(None, "")), pair(3, state="RTR")]
    assert values(flat(rdma_samples(snapshot([], pairs))), "xtrace_rdma_queue_pairs") == {
        ("mlx5_0", "unknown", "RTS"): 2,
        ("mlx5_0", "ib_write_bw", "RTR"): 1,
    }


def test_mode_has_no_figures_of_the_tool() -> None:
    assert RdmaMetrics().own(None) == {}


def test_every_series_appears_once_and_every_metric_is_described() -> None:
    everything = snapshot(
        [
            port({"local_ack_timeout_err": grew(3), "x": grew(1)}, traffic(4, 4), ethernet={"rx_pause": grew(1)}),
            port(where=PortId("mlx5_0", 2)),
        ],
        [pair(17), pair(19, state="RTR")],
        Rails(2, 1.0),
    )
    make = KINDS[everything.mode].metrics
    assert make is not None
    found = flat(make(MetricsOptions(1)).samples(everything))
    series = [(sample.name, sample.labels) for sample in found]
    assert len(series) == len(set(series))
    assert {sample.name for sample in found} <= set(DESCRIBED)
    assert {name for sample in found for name, _ in sample.labels} <= RESERVED_LABELS, "a user's label cannot hide them"
