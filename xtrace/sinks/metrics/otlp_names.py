"""Names in OTLP: attributes by OpenTelemetry's semantic conventions where there are any.

https://opentelemetry.io/docs/specs/semconv/
https://ucum.org/ucum (units)

They have no metrics of flows, nor of what a hook sees: metrics keep their names, with dots, of which Prometheus makes
those of docs/metrics.md again.
"""

from __future__ import annotations

from collections.abc import Iterator

from xtrace.sinks.metrics.sample import Labels, Metric

OWN = "xtrace."
ATTRIBUTES = {
    "src_ip": "source.address",
    "dst_ip": "destination.address",
    "src_port": "source.port",
    "dst_port": "destination.port",
    "interface": "network.interface.name",
    "direction": "network.io.direction",
    "protocol": "network.transport",
    "pid": "process.pid",
    "command": "process.command",
}
"""By our label; the others are prefixed by OWN, but for the user's. Ours of containers and pods are names, or ids where
these are unknown, for which there is no convention."""
NUMBERS = frozenset({"src_port", "dst_port", "pid"})
"""Labels whose values are integers there."""

TRANSPORTS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp", "132": "sctp"}
"""By protocol number; the others are numbers."""
DIRECTIONS = {"ingress": "receive", "egress": "transmit", "rx": "receive", "tx": "transmit"}
VALUES = {"protocol": TRANSPORTS, "direction": DIRECTIONS}

UNITS = {"bytes": "By", "seconds": "s", "bytes per second": "By/s", "ratio": "", "": ""}
"""The others are counted things: `{packet}`. Ratios have none: to gauges in `1` Prometheus adds `_ratio`."""


def metric_name(name: str) -> str:
    """Return the name of a metric."""
    return name.removesuffix("_total").replace("_", ".")


def unit(metric: Metric) -> str:
    """Return a metric's unit in UCUM."""
    known = UNITS.get(metric.unit)
    if known is not None:
        return known
    return f"{{{metric.unit.removesuffix('es') if metric.unit.endswith('sses') else metric.unit.removesuffix('s')}}}"


def attributes(labels: Labels, users: frozenset[str] = frozenset()) -> Iterator[tuple[str, str | int]]:
    """Yield names and values for labels that are not empty; `users`: names of the user's labels, which are kept."""
    for label, value in labels:
        if label in users:
            yield label, value
        elif value:
            shown = VALUES.get(label, {}).get(value, value)
            name = ATTRIBUTES.get(label, OWN + label)
            yield name, int(shown) if label in NUMBERS and shown.isdigit() else shown


def is_taken(label: str) -> bool:
    """Return whether Prometheus would give an attribute or a label of its own the name of this user's label."""
    names = {name.replace(".", "_") for name in ATTRIBUTES.values()}
    return label in names | {"job", "instance"} or label.startswith(OWN.replace(".", "_"))
