"""--label and XTRACE_LABELS: constant labels on every record and series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xtrace.errors import UsageError

MOST_LABELS, LONGEST_LABEL = 10, 256
"""Servers drop excess labels and truncate long values: VictoriaMetrics accepts 30 labels by default."""

RESERVED_LABELS = frozenset(
    {
        *("host", "host_ip", "collect_agg", "interface", "direction"),
        *("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "traffic_type"),
        *("src_qpn", "dst_qpn", "opcode", "vlan", "inner_vlan", "tunnel", "vni", "icmp_type"),
        *("icmp_code", "fragment", "ethertype"),
        *("device", "port", "set", "counter", "driver", "link_layer", "firmware", "pci", "command", "state"),
        *("pid", "function", "datatype", "error", "communicator", "rank", "le", "verdict"),
        *("owner", "container", "pod", "unit"),
        *("version", "reason", "health", "quantile"),
    }
)
"""Labels of the tool's own series; names that begin with `__` are reserved by the server."""


def parse_label(text: str, name: str) -> tuple[str, str]:
    """Return name and value of `rack=r1`. Raises UsageError."""
    label, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label):
        raise UsageError(f"{name}: '{text}' is not NAME=VALUE (a name has letters, digits and _; a value is not empty)")
    if label in RESERVED_LABELS or label.startswith("__"):
        raise UsageError(f"{name}: the name '{label}' is reserved (choose another)")
    if len(value) > LONGEST_LABEL:
        raise UsageError(f"{name}: the value of '{label}' has {len(value)} characters (at most {LONGEST_LABEL})")
    return label, value


def merge_labels(of_option: Iterable[str], of_variable: str) -> tuple[tuple[str, str], ...]:
    """Return the labels of --label and XTRACE_LABELS (comma-separated); --label wins."""
    parts = [part for part in of_variable.split(",") if part.strip()]
    labels = {**_unique(parts, "XTRACE_LABELS"), **_unique(of_option, "--label")}
    if len(labels) > MOST_LABELS:
        raise UsageError(f"--label: {len(labels)} labels are too many (at most {MOST_LABELS})")
    return tuple(labels.items())


def _unique(texts: Iterable[str], name: str) -> Mapping[str, str]:
    labels: dict[str, str] = {}
    for label, value in (parse_label(text, name) for text in texts):
        if label in labels:
            raise UsageError(f"{name}: '{label}' is given twice (give each name once)")
        labels[label] = value
    return labels
