"""Metrics of TCP: sums over the run, and as many series whatever the number of connections."""

from __future__ import annotations

from tests.unit.make import packed
from tests.unit.make_samples import Value, flat
from tests.unit.make_tcp import connection, snapshot, sums
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import COUNTERS, Failure, NamespaceSums, Reason, TcpSnapshot
from xtrace.model.words import Health
from xtrace.options.labels import RESERVED_LABELS
from xtrace.sinks.metrics.tcp import DESCRIBED, TcpMetrics


def samples(metrics: TcpMetrics, taken: TcpSnapshot) -> dict[tuple[str, str], int | float]:
    found: list[Value] = flat(metrics.samples(taken))
    keys = [(value.name, ",".join(text for _, text in value.labels)) for value in found]
    assert len(keys) == len(set(keys)), "a series has one value per interval"
    assert {value.name for value in found} <= set(DESCRIBED)
    assert {name for value in found for name, _ in value.labels} <= RESERVED_LABELS
    return dict(zip(keys, (value.value for value in found), strict=True))


def test_counters_add_up_over_intervals_and_gauges_do_not() -> None:
    metrics = TcpMetrics()
    samples(metrics, snapshot())
    found = samples(metrics, snapshot(namespaces=(sums(retrans_segs=12),)))
    assert found["xtrace_tcp_retransmitted_packets_total", ""] == 24
    assert found["xtrace_tcp_unseen_retransmissions_total", ""] == 1
    assert found["xtrace_tcp_failed_connects_total", "refused"] == 6
    assert found["xtrace_tcp_connections", ""] == 812
    assert found["xtrace_tcp_rtt_seconds", "0.5"] == 0.0003
    assert found["xtrace_tcp_rtt_seconds", "1"] == 0.0013


def test_ends_that_were_lost_add_up_and_a_reason_begins_with_0() -> None:
    metrics = TcpMetrics()
    for lost, before in ((5, {"xtrace_tcp_failed_connects_total": 0}), (None, None), (7, None)):
        made = list(metrics.samples(snapshot(namespaces=(sums(lost_ends=lost),))))
        (failed,) = [sample for sample in made if ("reason", "refused") in sample.labels]
        assert failed.before == before
    assert made[0].values["xtrace_tcp_lost_ends_total"] == 12


def test_losses_that_are_not_known_are_no_zero() -> None:
    made = list(TcpMetrics().samples(snapshot(namespaces=(sums(lost_ends=None),))))
    assert "xtrace_tcp_lost_ends_total" not in made[0].values


def test_unhealthy_connections_are_counted_by_health() -> None:
    taken = snapshot(connection(), connection(health=Health.WARN), connection(health=Health.CRITICAL))
    found = samples(TcpMetrics(), taken)
    assert found["xtrace_tcp_unhealthy_connections", "warn"] == 1
    assert found["xtrace_tcp_unhealthy_connections", "critical"] == 1


def test_every_metric_is_told() -> None:
    broken = Failure(packed("10.0.0.1"), 443, Reason.RESET, True, 1)
    found = samples(TcpMetrics(), snapshot(connection(), namespaces=(sums(failures=(*sums().failures, broken)),)))
    assert {name for name, _ in found} == set(DESCRIBED)


def test_series_are_as_many_whatever_fails_and_wherever() -> None:
    failures = tuple(Failure(packed(f"10.0.0.{n}"), n, Reason.REFUSED, False, 1) for n in range(1, 200))
    few, many = (
        samples(TcpMetrics(), snapshot()),
        samples(TcpMetrics(), snapshot(namespaces=(sums(failures=failures),))),
    )
    assert set(few) == set(many)
    assert many["xtrace_tcp_failed_connects_total", "refused"] == 199


def test_unreadable_sockets_have_no_values() -> None:
    found = samples(TcpMetrics(), snapshot(namespaces=(NamespaceSums(7, errors=("ENOENT",)),)))
    assert {name for name, _ in found} == {"xtrace_tcp_unhealthy_connections"}


def test_every_sum_has_the_kernels_value_of_its_meaning() -> None:
    named = {
        "retransmitted_packets": lib.TCP_RETRANSMITTED,
        "segments_sent": lib.TCP_SEGMENTS_SENT,
        "segments_received": lib.TCP_SEGMENTS_RECEIVED,
        "data_segments_sent": lib.TCP_DATA_SENT,
        "acknowledged_bytes": lib.TCP_BYTES_ACKED,
        "received_bytes": lib.TCP_BYTES_RECEIVED,
        "out_of_order_packets": lib.TCP_OUT_OF_ORDER,
    }
    counted = tuple(1000 + number for number in range(COUNTERS))
    both = (sums(sums=counted), sums(netns=8, sums=counted, connections=5, began=6, ended=7))
    found = samples(TcpMetrics(), snapshot(namespaces=both))
    assert {name: found[f"xtrace_tcp_{name}_total", ""] for name in named} == {
        name: 2 * (1000 + number) for name, number in named.items()
    }
    assert [found[f"xtrace_tcp_{name}", ""] for name in ("connections", "began_total", "ended_total")] == [817, 9, 9]


def test_round_trips_of_all_namespaces_have_a_middle_a_99th_hundredth_and_a_longest() -> None:
    """Two hundred of 1 to 200 ms."""
    odd, even = (tuple(1000 * at for at in range(first, 201, 2)) for first in (1, 2))
    found = samples(TcpMetrics(), snapshot(namespaces=(sums(rtts=odd), sums(netns=8, rtts=even))))
    quantiles = {text: value for (name, text), value in found.items() if name == "xtrace_tcp_rtt_seconds"}
    assert quantiles == {"0.5": 0.101, "0.99": 0.199, "1": 0.2}
