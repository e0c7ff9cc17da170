"""Compare the server's data with the JSON Lines of the same run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.push.server import Stores, increments
from tests.support.net import of_type

LINES = Sequence[dict[str, Any]]
Grown = Counter[tuple[int, str, str]]
"""By milliseconds, interface and direction."""

FLOW_LABELS = ("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "traffic_type")


def ms(ts: str) -> int:
    """Return a record's time in milliseconds since the epoch."""
    return round(datetime.fromisoformat(ts.replace("Z", "+00:00")).timestamp() * 1000)


def grown(server: Stores, metric: str) -> Grown:
    """Sum the increments of all series of a counter; each starts with its value before its first interval."""
    sums: Grown = Counter()
    for labels, samples in server.export(metric).items():
        named = dict(labels)
        for at_ms, gained in increments(samples).items():
            sums[at_ms, named["interface"], named["direction"]] += gained
    return sums


def printed(lines: LINES, kinds: Sequence[str], field: str) -> Grown:
    """The same from JSON Lines."""
    sums: Grown = Counter()
    for record in lines:
        if record["type"] in kinds and record[field]:
            sums[ms(record["ts"]), record["interface"], record["direction"]] += record[field]
    return sums


def assert_server_has_all(server: Stores, lines: LINES, since_ms: int = 0) -> None:
    """Assert that raw samples grew as the records state, in both units, in each interval after `since_ms`."""

    def later(sums: Grown) -> Grown:
        return Counter({key: value for key, value in sums.items() if key[0] > since_ms})

    for unit in ("packets", "bytes"):
        flows = later(grown(server, f"xtrace_network_{unit}_total"))
        expected = later(printed(lines, ("flow", "other"), unit))
        assert flows == expected, (flows - expected, expected - flows)
        interface = later(grown(server, f"xtrace_interface_{unit}_total"))
        assert interface == later(printed(lines, ("interface",), unit))
        lost = Counter[tuple[int, str, str]]()
        for loss in ("unattributed", "filtered"):
            found = later(grown(server, f"xtrace_{loss}_{unit}_total"))
            assert found == later(printed(lines, ("interface",), f"{loss}_{unit}"))
            lost += found
        assert flows + lost == interface


def last(server: Stores, metric: str) -> int:
    """Return the sum of the last values of all series of a counter."""
    return sum(int(samples[-1][1]) for samples in server.export(metric).values())


def last_minus_first(server: Stores, metric: str) -> int:
    """Return the sum of (last - first) over all series of a counter."""
    return sum(int(samples[-1][1] - samples[0][1]) for samples in server.export(metric).values())


def assert_each_series_is_its_flow(server: Stores, lines: LINES) -> None:
    """Assert that series and gauge of each flow match its record in every interval."""
    records: Counter[tuple[Any, ...]] = Counter()
    for record in of_type(lines, "flow"):
        records[(ms(record["ts"]), *(str(record[name]) for name in FLOW_LABELS))] += record["bytes"]
    gauges = server.export("xtrace_network_flow_bytes")
    compared = 0
    for labels, samples in server.export("xtrace_network_bytes_total").items():
        named = dict(labels)
        if named["src_ip"] == "other" or "opcode" in named:
            continue
        name = tuple(named[label] for label in FLOW_LABELS)
        gauge = dict(gauges[(labels - {("__name__", named["__name__"])}) | {("__name__", "xtrace_network_flow_bytes")}])
        for at_ms, gained in increments(samples).items():
            assert records[(at_ms, *name)] == gained == gauge[at_ms]
            compared += 1
    assert compared
