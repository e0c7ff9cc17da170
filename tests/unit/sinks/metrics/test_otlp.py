"""Names and values of OTLP, and requests as a receiver decodes them; real servers have them in tests/push."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from deploy.snapshot.series import DESCRIBED
from xtrace.sinks.metrics.otlp import Otlp
from xtrace.sinks.metrics.otlp_names import attributes, is_taken, metric_name, unit
from xtrace.sinks.metrics.sample import Interval, Labels, Metric, Sample


def test_names_of_metrics_stay_different_and_are_the_documented_ones_again() -> None:
    names = {name: metric_name(name) for name in DESCRIBED}
    assert len(set(names.values())) == len(names)
    for name, dotted in names.items():
        assert re.fullmatch(r"xtrace(\.[a-z0-9]+)+", dotted)
        assert dotted.replace(".", "_") + ("_total" if name.endswith("_total") else "") == name


@pytest.mark.parametrize(
    "ours, theirs",
    [("bytes", "By"), ("seconds", "s"), ("packets", "{packet}"), ("processes", "{process}"), ("ratio", ""), ("", "")],
)
def test_units_are_those_of_ucum(ours: str, theirs: str) -> None:
    assert unit(Metric("gauge", ours, "")) == theirs


def test_prometheus_adds_no_unit_to_a_name() -> None:
    """It does so for units that it knows, `1` among them, unless the name has their words."""
    words = {"By": ("bytes",), "s": ("seconds",), "By/s": ("bytes", "second")}
    for name, metric in DESCRIBED.items():
        known = unit(metric)
        if known and not known.startswith("{"):
            assert set(words[known]) <= set(name.split("_")), name


def test_attributes_follow_the_conventions_and_empty_labels_are_left_out() -> None:
    labels = (
        *(("src_ip", "10.0.0.1"), ("dst_ip", "other"), ("src_port", "443"), ("protocol", "6"), ("direction", "egress")),
        *(("interface", "eth0"), ("vlan", ""), ("vni", "7"), ("rack", "r1")),
    )
    assert dict(attributes(labels, frozenset({"rack"}))) == {
        "source.address": "10.0.0.1",
        "destination.address": "other",
        "source.port": 443,
        "network.transport": "tcp",
        "network.io.direction": "transmit",
        "network.interface.name": "eth0",
        "xtrace.vni": "7",
        "rack": "r1",
    }


@pytest.mark.parametrize("protocol, shown", [("17", "udp"), ("1", "icmp"), ("58", "ipv6-icmp"), ("47", "47")])
def test_other_protocols_are_numbers(protocol: str, shown: str) -> None:
    assert list(attributes((("protocol", protocol),))) == [("network.transport", shown)]


@pytest.mark.parametrize(
    "label, is_one", [("job", True), ("source_address", True), ("xtrace_vni", True), ("rack", False), ("source", False)]
)
def test_labels_that_receivers_would_merge_with_others_are_known(label: str, is_one: bool) -> None:
    assert is_taken(label) is is_one


def test_nothing_is_sent_of_nothing() -> None:
    encoding = Otlp((("host", "n1"),), frozenset(), "1")
    assert (len(encoding), encoding.body(), encoding.last_body()) == (0, b"", b"")


def test_series_are_selected_by_every_name_that_servers_make_of_host_service_and_the_users_labels() -> None:
    made = Otlp((("host", "n1"), ("local_ip", "10.0.0.1"), ("site", "b")), frozenset({"site"}), "0.1.0")
    assert made.selector("xtrace_flow_bytes_total").splitlines() == [
        'xtrace_flow_bytes{job="xtrace-catch",instance="n1",site="b"}',
        r'{__name__="xtrace.flow.bytes",service\.instance\.id="n1",site="b"}',
        'xtrace_flow_bytes{service_instance_id="n1",site="b"}',
    ]


HOST: Labels = (("host", "n1"), ("site", "b"), ("cluster", "c"))
USERS = frozenset({"site"})
TICKS = [Interval(1000 * tick, 1000 * tick + 1000) for tick in range(1, 5)]
METRICS = {
    "xtrace_a_packets_total": Metric("counter", "packets", "All packets."),
    "xtrace_b_seconds": Metric("gauge", "seconds", "How long."),
}


def request(encoding: Otlp, tick: int, *samples: Sample) -> Any:
    """What a receiver decodes by the published definition."""
    encoding.add(samples, METRICS, TICKS[tick])
    expected = len(encoding)
    made = ExportMetricsServiceRequest()
    made.ParseFromString(encoding.body())
    points = [
        point
        for each in made.resource_metrics
        for metric in each.scope_metrics[0].metrics
        for point in (*metric.sum.data_points, *metric.gauge.data_points)
    ]
    assert len(points) >= expected
    return made


def named(attributes: Any) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def points_of(made: Any) -> list[tuple[str, dict[str, str | int], int, int, float | int | None]]:
    """Metric, attributes, start and time in s, and value of each point; None: the mark of an end."""
    found = []
    for metric in made.resource_metrics[0].scope_metrics[0].metrics:
        for point in (*metric.sum.data_points, *metric.gauge.data_points):
            value = None if point.flags & 1 else getattr(point, point.WhichOneof("value"))
            times = point.start_time_unix_nano / 1e9, point.time_unix_nano / 1e9
            found.append((metric.name, named(point.attributes), *times, value))
    return found


def test_a_request_has_resource_scope_metrics_and_points() -> None:
    encoding = Otlp(HOST, USERS, "1.2.3")
    labels: Labels = (("src_port", "443"), ("interface", "eth0"))
    made = request(
        encoding,
        0,
        Sample(labels, {"xtrace_a_packets_total": 7, "xtrace_b_seconds": 0.5}, {"xtrace_a_packets_total": 0}),
    )
    (whole,) = made.resource_metrics
    (scope,) = whole.scope_metrics
    assert named(whole.resource.attributes) == {
        "service.name": "xtrace-catch",
        "service.version": "1.2.3",
        "service.instance.id": "n1",
        "host.name": "n1",
    }
    assert (scope.scope.name, scope.scope.version) == ("xtrace-catch", "1.2.3")
    counter, gauge = scope.metrics
    assert (counter.name, counter.description, counter.unit) == ("xtrace.a.packets", "All packets.", "{packet}")
    assert (counter.WhichOneof("data"), counter.sum.aggregation_temporality, counter.sum.is_monotonic) == (
        "sum",
        2,
        True,
    )
    assert (gauge.name, gauge.description, gauge.unit) == ("xtrace.b.seconds", "How long.", "s")
    assert gauge.WhichOneof("data") == "gauge"
    own = {"source.port": 443, "network.interface.name": "eth0", "site": "b", "xtrace.cluster": "c"}
    assert points_of(made) == [
        ("xtrace.a.packets", own, 1, 1, 0),
        ("xtrace.a.packets", own, 1, 2, 7),
        ("xtrace.b.seconds", own, 0, 2, 0.5),
    ]


def test_a_label_of_a_series_overrides_one_that_all_have() -> None:
    made = request(Otlp(HOST, USERS, "1"), 0, Sample((("site", "own"),), {"xtrace_b_seconds": 1}))
    assert [each[1] for each in points_of(made)] == [{"site": "own", "xtrace.cluster": "c"}]


def test_points_have_integers_where_they_fit_and_a_mark_at_the_end() -> None:
    encoding, name = Otlp((("host", "n1"),), frozenset(), "1"), "xtrace_b_seconds"
    values = [(1 << 63) - 1, 1 << 63, -(1 << 63), 0.0]
    found = [request(encoding, tick, Sample((), {name: value})) for tick, value in enumerate(values)]
    assert [each[4] for made in found for each in points_of(made)] == values
    kinds = [
        made.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0].WhichOneof("value") for made in found
    ]
    assert kinds == ["as_int", "as_double", "as_int", "as_double"]
    last = ExportMetricsServiceRequest()
    last.ParseFromString(encoding.last_body())
    assert points_of(last) == [("xtrace.b.seconds", {}, 0, 5.001, None)]
    assert encoding.last_body() == b""


def test_a_body_is_announced_and_packed_as_gzip() -> None:
    encoding = Otlp((("host", "n1"),), frozenset(), "1")
    assert dict(encoding.headers(b"")) == {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    assert gzip.decompress(encoding.compress(b"abc")) == b"abc"
