"""Bounds on series and memory with more flows than series."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.netns.tool import CPUS, LIMIT_S, bounded, total
from tests.push.compare import assert_server_has_all, last_minus_first
from tests.push.server import victoria_metrics
from tests.push.wire import Wire, wire
from tests.support.net import of_type

FLOWS_PER_SENDER = 1 << 16
PASSES = 8
"""Through all flows; no flow ever has more than twice the packets of another, plus one."""
MOST_SERIES = 1000
MOST_RSS = 100_000_000
CHURN_S = int(os.environ.get("XTRACE_CHURN_S", "20"))
"""Length of the run with short flows."""


def flood(wired: Wire) -> None:
    """One packet of each of 131,072 flows, from two networks."""
    for net, cpu in ((1, CPUS[0]), (2, CPUS[-1])):
        options = ("--flows", str(FLOWS_PER_SENDER), "--source-net", str(net), "--cpu", str(cpu))
        with bounded(wired.far.flood(wired.sender, FLOWS_PER_SENDER, *options)) as sender:
            assert sender.wait(LIMIT_S) == 0


def peak_rss(pid: int) -> int:
    """VmHWM in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def test_a_hundred_thousand_flows_per_interval_make_a_thousand_and_one_series_exactly() -> None:
    options = ("-t", "3s", "--max-flows", "150000", "--max-series", str(MOST_SERIES), "-o", "json", "--top", "1")
    with victoria_metrics() as server, wire() as wired:
        with wired.watching("--push", server.url, *options) as tool:
            for _ in range(PASSES):
                flood(wired)
            rss = peak_rss(tool.process.pid)
            result = tool.stop()
        assert result.code == 0, result.said
        lines = result.records
        assert max(record["flows"] for record in of_type(lines, "interface")) >= 100_000
        assert_server_has_all(server, lines)
        for unit in ("packets", "bytes"):
            assert last_minus_first(server, f"xtrace_network_{unit}_total") == total(lines, unit)
            for metric in (f"xtrace_network_{unit}_total", f"xtrace_network_flow_{unit}"):
                assert len(server.export(metric)) == MOST_SERIES + 1
    assert rss < MOST_RSS, f"{rss / 1e6:.1f} MB"


def test_short_flows_make_no_more_series_than_the_budget_allows_and_sums_are_exact() -> None:
    most = round(CHURN_S * 5)
    hours = (CHURN_S + 10) / 3600
    with victoria_metrics() as server, wire() as wired:
        options = ("-o", "json", "-t", "1s", "--max-series", str(most))
        with wired.churn(), wired.watching("--push", server.url, *options) as tool:
            tool.wait_for_intervals(CHURN_S)
            result = tool.stop()
        assert result.code == 0, result.said
        assert_server_has_all(server, result.records)
        flows = sum(record["flows"] for record in of_type(result.records, "interface"))
        series = len(server.export("xtrace_network_bytes_total")) - 1
    print(f"{flows} flows, {series} series, {most} places, {CHURN_S} s")
    assert flows > 10 * most
    assert most <= series <= most * (1 + hours) + 1


@pytest.mark.parametrize("series_by", ["service", "hosts"])
def test_series_by_service_or_hosts_are_fewer_and_add_up(series_by: str) -> None:
    with victoria_metrics() as server, wire() as wired:
        with (
            wired.traffic(),
            wired.watching("--push", server.url, "-o", "json", "-t", "500ms", "--series-by", series_by) as tool,
        ):
            tool.wait_for_intervals(4)
            result = tool.stop()
        assert result.code == 0, result.said
        assert_server_has_all(server, result.records)
        found = [dict(labels) for labels in server.export("xtrace_network_bytes_total")]
    assert found
    # all senders have higher ports than the services
    expected = {"0"} if series_by == "service" else {None}
    assert {labels.get("src_port") for labels in found} == expected
    assert ("dst_port" in found[0]) == (series_by == "service")


def test_counters_alone_are_half_the_series_and_add_up() -> None:
    with victoria_metrics() as server, wire() as wired, wired.traffic():
        options = ("-o", "json", "-t", "500ms", "--metrics", "counters", "--max-series", "40")
        with wired.watching("--push", server.url, *options) as tool:
            tool.wait_for_intervals(6)
            result = tool.stop()
        assert result.code == 0, result.said
        assert_server_has_all(server, result.records)
        assert server.export("xtrace_network_bytes_total")
        assert server.export('{__name__=~"xtrace_network_flow_.*"}') == {}
