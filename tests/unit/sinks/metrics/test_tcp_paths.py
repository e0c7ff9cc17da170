"""Metrics of followed connections: sums over the run by interface, as many series whatever their number."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.make_paths import snapshot, sums
from tests.unit.make_samples import Value, flat
from xtrace.model.tcp_path import COUNTERS, Missed, PathSnapshot
from xtrace.options.labels import RESERVED_LABELS
from xtrace.sinks.metrics.tcp_paths import COUNTED, DESCRIBED, PathMetrics


def samples(metrics: PathMetrics, taken: PathSnapshot) -> dict[tuple[str, str], int | float]:
    found: list[Value] = flat(metrics.samples(taken))
    assert {name for value in found for name, _ in value.labels} <= RESERVED_LABELS
    return {(value.name, value.labels[0][1]): value.value for value in found}


def test_counters_add_up_by_interface_and_the_number_of_connections_does_not() -> None:
    metrics = PathMetrics()
    first = replace(sums(retransmitted_packets=3), opened=1, refused=2, missed=Missed(4, 5, 6))
    other = replace(sums(retransmitted_packets=7), interface="eth1", connections=9)
    samples(metrics, snapshot(of=(first,)))
    found = samples(metrics, snapshot(of=(first, other)))
    assert {name for name, _ in found} == set(DESCRIBED)
    expected = {"retransmitted": 6, "began": 2, "refused": 4, "no_room": 8, "unread": 10}
    for name, value in expected.items():
        unit = "" if name in ("began", "refused") else "_packets"
        assert found[f"xtrace_tcp_path_{name}{unit}_total", "eth0"] == value
    assert found["xtrace_tcp_path_retransmitted_packets_total", "eth1"] == 7
    assert [found["xtrace_tcp_path_connections", name] for name in ("eth0", "eth1")] == [2, 9]


def test_series_goes_on_without_connections_and_begins_with_0() -> None:
    metrics = PathMetrics()
    (first,) = metrics.samples(snapshot(of=(sums(packets=3),)))
    assert first.before == {name: 0 for name, metric in DESCRIBED.items() if metric.kind == "counter"}
    (second,) = metrics.samples(snapshot())
    assert second.before is None
    assert (second.values["xtrace_tcp_path_packets_total"], second.values["xtrace_tcp_path_connections"]) == (3, 0)
    assert metrics.own(None) == {}


def test_counters_are_those_of_the_program() -> None:
    assert {counter for counter, _, _ in COUNTED.values()} <= set(COUNTERS)
