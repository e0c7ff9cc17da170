"""What was sent by OTLP, read by the names of docs/metrics.md: in VictoriaMetrics, or in the requests themselves."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.push.server import Labels, Samples, Server, Stores, victoria_metrics

NAMES = {
    "xtrace_network_bytes_total": "xtrace.network.bytes",
    "xtrace_network_packets_total": "xtrace.network.packets",
    "xtrace_network_flow_bytes": "xtrace.network.flow.bytes",
    "xtrace_network_flow_packets": "xtrace.network.flow.packets",
    "xtrace_interface_bytes_total": "xtrace.interface.bytes",
    "xtrace_interface_packets_total": "xtrace.interface.packets",
    "xtrace_unattributed_bytes_total": "xtrace.unattributed.bytes",
    "xtrace_unattributed_packets_total": "xtrace.unattributed.packets",
    "xtrace_filtered_bytes_total": "xtrace.filtered.bytes",
    "xtrace_filtered_packets_total": "xtrace.filtered.packets",
}
LABELS = {
    "source_address": "src_ip",
    "destination_address": "dst_ip",
    "source_port": "src_port",
    "destination_port": "dst_port",
    "network_interface_name": "interface",
    "network_io_direction": "direction",
    "network_transport": "protocol",
}
VALUES = {"receive": "ingress", "transmit": "egress", "tcp": "6", "udp": "17"}


PATH, CONTENT = "/opentelemetry/v1/metrics", {"Content-Type": "application/x-protobuf"}


@contextmanager
def receiving() -> Iterator[Server]:
    """Run a VictoriaMetrics that receives OTLP."""
    with victoria_metrics() as server, urllib3.PoolManager(retries=False) as http:
        if http.request("POST", server.base + PATH, body=b"", headers=CONTENT).status >= 300:
            pytest.xfail("VictoriaMetrics does not receive OTLP before 1.92")
        yield server


def named(labels: Iterable[tuple[str, str]], name: str) -> Labels:
    """Return labels by our names."""
    found = {}
    for label, value in labels:
        label = label.replace(".", "_")
        ours = LABELS.get(label, label.removeprefix("xtrace_"))
        found[ours] = VALUES.get(value, value) if ours in ("direction", "protocol") else value
    return frozenset({**found, "__name__": name}.items())


class ByOtlp:
    """VictoriaMetrics, which keeps names with dots, behind the names of docs/metrics.md."""

    def __init__(self, server: Stores) -> None:
        self._server = server

    def export(self, selector: str) -> dict[Labels, Samples]:
        """Return raw samples of a metric, without points that have no value."""
        name = f'{{__name__="{NAMES[selector]}"}}'
        return {named(labels, selector): samples for labels, samples in self._server.export(name).items()}

    def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        return self._server.query(expression, at_ms)


class Received:
    """What requests contain, by the names of docs/metrics.md."""

    def __init__(self, bodies: Iterable[bytes]) -> None:
        self.requests = []
        for body in bodies:
            request = ExportMetricsServiceRequest()
            request.ParseFromString(zlib.decompress(body, 31))
            self.requests.append(request)
        self._series: dict[str, dict[Labels, Samples]] = {}
        self.ends: dict[str, dict[Labels, int]] = {}
        """times (ns) of points without a value by metric"""
        for request in self.requests:
            self._add(request)

    def _add(self, request: Any) -> None:
        ours = {dotted: name for name, dotted in NAMES.items()}
        (resource,) = request.resource_metrics
        (scope,) = resource.scope_metrics
        for metric in scope.metrics:
            name = ours.get(metric.name, metric.name)
            kind = getattr(metric, metric.WhichOneof("data"))
            for point in kind.data_points:
                values = ((each.key, getattr(each.value, each.value.WhichOneof("value"))) for each in point.attributes)
                labels = named(((key, str(value)) for key, value in values), name)
                if point.flags & 1:
                    assert point.WhichOneof("value") is None
                    self.ends.setdefault(name, {})[labels] = point.time_unix_nano
                    continue
                samples = self._series.setdefault(name, {}).setdefault(labels, [])
                samples.append((point.time_unix_nano // 1_000_000, getattr(point, point.WhichOneof("value"))))

    def resource(self) -> dict[str, str]:
        """Return the attributes of the resource of the first request."""
        (found,) = self.requests[0].resource_metrics
        return {each.key: each.value.string_value for each in found.resource.attributes}

    def export(self, selector: str) -> dict[Labels, Samples]:
        """Return samples of a metric."""
        return {labels: sorted(samples) for labels, samples in self._series.get(selector, {}).items()}

    def query(self, expression: str, at_ms: int) -> list[dict[str, Any]]:
        """Nothing is queried."""
        raise NotImplementedError
