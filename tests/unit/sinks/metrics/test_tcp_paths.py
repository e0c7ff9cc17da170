"""Metrics of followed connections: sums over the run by interface, whatever the number of connections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.make_paths import path, snapshot, sums
from tests.unit.make_samples import Value, flat
from xtrace.model.tcp_path import COUNTERS, Missed, PathSnapshot
from xtrace.model.words import Health
from xtrace.options.labels import RESERVED_LABELS
from xtrace.sinks.metrics import tcp_paths
from xtrace.sinks.metrics.tcp_paths import COUNTED, DESCRIBED, PathMetrics


def samples(metrics: PathMetrics, taken: PathSnapshot) -> dict[tuple[str, ...], int | float]:
    """Values by metric and the values of its labels."""
    found: list[Value] = flat(metrics.samples(taken))
    assert {name for value in found for name, _ in value.labels} <= RESERVED_LABELS
    return {(value.name, *(text for _, text in value.labels)): value.value for value in found}


def test_counters_add_up_by_interface_and_the_number_of_connections_does_not() -> None:
    metrics = PathMetrics()
    first = replace(
        sums(retransmitted_packets=3, closed_ticks=50),
        opened=1,
        refused=2,
        missed=Missed(4, 5, 6),
        server_ns=(7,),
        client_ns=(8,),
    )
    other = replace(sums(retransmitted_packets=7), interface="eth1", slot=1, connections=9)
    samples(metrics, snapshot(of=(first,)))
    found = samples(metrics, snapshot(of=(first, other)))
    assert {name for name, *_ in found} == set(DESCRIBED)
    expected = {"retransmitted": 6, "began": 2, "refused": 4, "no_room": 8, "unread": 10, "second_pass": 12}
    for name, value in expected.items():
        unit = "" if name in ("began", "refused") else "_packets"
        assert found[f"xtrace_tcp_path_{name}{unit}_total", "eth0"] == value
    # 50 ticks of 4 ms, twice
    assert found["xtrace_tcp_path_window_closed_seconds_total", "eth0"] == pytest.approx(0.4)
    assert found["xtrace_tcp_path_retransmitted_packets_total", "eth1"] == 7
    assert [found["xtrace_tcp_path_connections", name] for name in ("eth0", "eth1")] == [2, 9]


def test_series_goes_on_without_connections_and_begins_with_what_it_was() -> None:
    metrics = PathMetrics()
    first, *_ = metrics.samples(snapshot(of=(sums(packets=3),)))
    assert first.before == {name: 0 for name, metric in DESCRIBED.items() if metric.kind == "counter"}
    second, *_ = metrics.samples(snapshot(of=(replace(sums(), connections=0),)))
    assert second.before is None
    assert (second.values["xtrace_tcp_path_packets_total"], second.values["xtrace_tcp_path_connections"]) == (3, 0)
    assert metrics.own(None) == {}


def test_an_interface_that_is_gone_has_no_samples_and_its_counters_go_on_when_it_is_back() -> None:
    metrics = PathMetrics()
    list(metrics.samples(snapshot(of=(sums(packets=3),))))
    assert list(metrics.samples(snapshot())) == []
    back, *_ = metrics.samples(snapshot(of=(sums(packets=4),)))
    assert back.before is not None and back.before["xtrace_tcp_path_packets_total"] == 3
    assert back.values["xtrace_tcp_path_packets_total"] == 7


def test_interfaces_beyond_the_most_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_paths, "MOST_TOTALS", 2)
    metrics = PathMetrics()
    many = [replace(sums(packets=n + 1), interface=f"eth{n}", slot=n) for n in range(4)]
    ill = path(health=Health.WARN, slot=3)
    found = samples(metrics, snapshot(ill, of=tuple(many)))
    assert {name: found["xtrace_tcp_path_packets_total", name] for name in ("eth0", "eth1", "other")} == {
        "eth0": 1,
        "eth1": 2,
        "other": 7,
    }
    assert found["xtrace_tcp_path_unhealthy_connections", "other", "warn"] == 1
    assert found["xtrace_tcp_path_connections", "other"] == 4
    list(metrics.samples(snapshot(of=(many[0],))))
    again = samples(metrics, snapshot(of=tuple(many)))
    assert again["xtrace_tcp_path_packets_total", "eth0"] == 3
    assert again["xtrace_tcp_path_packets_total", "other"] == 14


def test_connections_with_a_verdict_are_counted_where_they_are() -> None:
    ill = [path(health=health) for health in (Health.WARN, Health.WARN, Health.CRITICAL, Health.OK)]
    away = replace(sums(), interface="eth1", slot=1)
    found = samples(PathMetrics(), snapshot(*ill, path(health=Health.CRITICAL, slot=1), of=(sums(), away)))
    name = "xtrace_tcp_path_unhealthy_connections"
    counts = {
        labels: value for (metric, *labels_), value in found.items() if metric == name and (labels := tuple(labels_))
    }
    assert counts == {("eth0", "warn"): 2, ("eth0", "critical"): 1, ("eth1", "warn"): 0, ("eth1", "critical"): 1}


def test_round_trips_are_those_of_each_side_and_missing_if_there_were_none() -> None:
    timed = replace(sums(), client_ns=tuple(range(1_000_000, 101_000_000, 1_000_000)), server_ns=(2_000_000,))
    away = replace(sums(), interface="eth1", slot=1)
    found = samples(PathMetrics(), snapshot(of=(timed, away)))
    rtts = {key: value for key, value in found.items() if "rtt" in key[0]}
    client, server = "xtrace_tcp_path_client_rtt_seconds", "xtrace_tcp_path_server_rtt_seconds"
    assert rtts == {
        (client, "eth0", "0.5"): 0.051,
        (client, "eth0", "0.99"): 0.1,
        (client, "eth0", "1"): 0.1,
        **{(server, "eth0", part): 0.002 for part in ("0.5", "0.99", "1")},
    }


def test_counters_are_those_of_the_program() -> None:
    assert {counter for counter, _, _ in COUNTED.values()} <= set(COUNTERS)
