"""Names and values of OTLP; requests themselves are decoded in tests/push."""

from __future__ import annotations

import re

import pytest

from deploy.snapshot.series import DESCRIBED
from xtrace.sinks.metrics.otlp import Otlp
from xtrace.sinks.metrics.otlp_names import attributes, is_taken, metric_name, unit
from xtrace.sinks.metrics.sample import Metric


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
