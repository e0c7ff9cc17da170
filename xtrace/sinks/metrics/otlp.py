"""OTLP metrics: an ExportMetricsServiceRequest in protobuf per tick.

https://opentelemetry.io/docs/specs/otlp/
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto

    ExportMetricsServiceRequest { repeated ResourceMetrics resource_metrics = 1; }
    ResourceMetrics { Resource resource = 1; repeated ScopeMetrics scope_metrics = 2; }
    Resource { repeated KeyValue attributes = 1; }
    ScopeMetrics { InstrumentationScope scope = 1; repeated Metric metrics = 2; }
    InstrumentationScope { string name = 1; string version = 2; }
    Metric { string name = 1; string description = 2; string unit = 3; Gauge gauge = 5; Sum sum = 7; }
    Gauge { repeated NumberDataPoint data_points = 1; }
    Sum { repeated NumberDataPoint data_points = 1; AggregationTemporality aggregation_temporality = 2;
          bool is_monotonic = 3; }
    NumberDataPoint { repeated KeyValue attributes = 7; fixed64 start_time_unix_nano = 2; fixed64 time_unix_nano = 3;
                      double as_double = 4; sfixed64 as_int = 6; uint32 flags = 8; }
    KeyValue { string key = 1; AnyValue value = 2; }
    AnyValue { string string_value = 1; int64 int_value = 3; }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct

from xtrace.sinks.metrics.encoding import gzip
from xtrace.sinks.metrics.exposition import label_text
from xtrace.sinks.metrics.following import Followed, Following, Point
from xtrace.sinks.metrics.otlp_names import attributes, metric_name, unit
from xtrace.sinks.metrics.protobuf import FIXED64, VARINT, field, tag, text, varint
from xtrace.sinks.metrics.sample import NS_PER_MS, Labels, Metric
from xtrace.sinks.render import valid_unicode

SERVICE = "xtrace-catch"
HEADERS: Mapping[str, str] = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}

_FIXED, _INT, _DOUBLE = Struct("<Q"), Struct("<q"), Struct("<d")
_INTEGERS = range(-(1 << 63), 1 << 63)
_POINT = tag(1, 2)
_START, _TIME, _AS_DOUBLE, _AS_INT = (tag(number, FIXED64) for number in (2, 3, 4, 6))
_NO_RECORDED_VALUE = tag(8, VARINT) + varint(1)
_CUMULATIVE = tag(2, VARINT) + varint(2) + tag(3, VARINT) + varint(1)
"""of a Sum that never decreases"""


def key_value(name: str, value: str | int) -> bytes:
    """Return a KeyValue."""
    typed = tag(3, VARINT) + varint(value) if isinstance(value, int) else field(1, valid_unicode(value).encode())
    return text(1, name) + field(2, typed)


class Request:
    """A Message with one resource. Rendered: the attributes of a data point."""

    def __init__(self, resource: Labels, version: str, constant: Labels, users: frozenset[str]) -> None:
        """`resource`: OpenTelemetry's attributes; `constant`: our labels of all series, `users` among them."""
        self._constant = constant
        self._users = users
        self._resource = field(1, b"".join(field(1, key_value(*each)) for each in resource))
        self._scope = field(1, text(1, SERVICE) + text(2, version))
        self._described: dict[str, Metric] = {}
        self._points: dict[str, list[bytes]] = {}
        """by metric"""

    def render(self, labels: Labels) -> bytes:
        """Return the attributes; one of ours overrides one that all series have."""
        own = {name for name, _ in labels}
        both = (*labels, *(each for each in self._constant if each[0] not in own))
        return b"".join(field(7, key_value(*each)) for each in attributes(both, self._users))

    def describe(self, described: Mapping[str, Metric]) -> None:
        """Take note of metrics."""
        self._described.update(described)

    def write(self, series: Followed[bytes], name: str, points: Sequence[Point]) -> None:
        """Add data points, all with the same attributes."""
        own = self._points.setdefault(name, [])
        start_ms = series.began_ms.get(name)
        start = _START + _FIXED.pack(start_ms * NS_PER_MS) if start_ms else b""
        for at_ms, value in points:
            point = b"".join((series.rendered, start, _TIME, _FIXED.pack(at_ms * NS_PER_MS), _value(value)))
            own += (_POINT + varint(len(point)), point)

    def finish(self) -> bytes:
        """Return the ExportMetricsServiceRequest; b"" if it would be empty."""
        metrics = b"".join(field(2, self._metric(name, points)) for name, points in self._points.items())
        self._points.clear()
        return field(1, self._resource + field(2, self._scope + metrics)) if metrics else b""

    def _metric(self, name: str, points: Sequence[bytes]) -> bytes:
        metric = self._described[name]
        head = text(1, metric_name(name)) + text(2, metric.help) + text(3, unit(metric))
        data = b"".join(points)
        return head + (field(7, data + _CUMULATIVE) if metric.kind == "counter" else field(5, data))


def _value(value: float | None) -> bytes:
    if value is None:
        return _NO_RECORDED_VALUE
    if isinstance(value, int) and value in _INTEGERS:
        return _AS_INT + _INT.pack(value)
    return _AS_DOUBLE + _DOUBLE.pack(value)


class Otlp(Following[bytes]):
    """A request per tick as an Encoding. A series that ends gets a point without a value 1 ms after its last sample.

    Host and service are the resource; whatever else all series have are attributes of their points, as servers
    need not make labels of a resource's.
    """

    form = "otlp"

    def __init__(self, constant: Labels, users: frozenset[str], version: str) -> None:
        """`constant`: our labels of all series, `host` first; `users`: the names of the user's among them."""
        (_, self._host), *others = constant
        self._users = tuple(label for label in others if label[0] in users)
        resource = (
            ("service.name", SERVICE),
            ("service.version", version),
            ("service.instance.id", self._host),
            ("host.name", self._host),
        )
        super().__init__(Request(resource, version, tuple(others), users))

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Return the content headers."""
        return HEADERS

    def selector(self, name: str) -> str:
        """Return selectors by the names that Prometheus makes, and VictoriaMetrics, which keeps dots unless told to."""
        dotted = metric_name(name)
        sanitized = dotted.replace(".", "_")
        users = dict(self._users)
        of_prometheus = label_text({"job": SERVICE, "instance": self._host, **users}.items())
        who = label_text({"service_instance_id": self._host, **users}.items())
        dotted_who = who.replace("service_instance_id", r"service\.instance\.id", 1)
        return "\n".join(
            (
                f"{sanitized}{{{of_prometheus}}}",
                f'{{__name__="{dotted}",{dotted_who}}}',
                f"{sanitized}{{{who}}}",
            )
        )

    def compress(self, body: bytes) -> bytes:
        """Compress by gzip."""
        return gzip(body)

    def pieces(self, body: bytes) -> None:
        """Return None: servers name series in ways of their own."""
