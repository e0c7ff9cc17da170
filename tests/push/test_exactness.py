"""The raw samples in a real VictoriaMetrics are exactly what was counted."""

from __future__ import annotations

from typing import Any

from tests.netns.tool import Result, total
from tests.push.compare import assert_each_series_is_its_flow, assert_server_has_all, last_minus_first
from tests.push.server import Server, victoria_metrics
from tests.push.wire import Wire, wire
from tests.support.net import of_type


def intervals(number: int) -> tuple[str, ...]:
    return ("-t", "300ms", "-c", str(number))


def run(wired: Wire, *arguments: str, variables: dict[str, str] | None = None) -> Result:
    """A run under traffic, to its end."""
    with wired.traffic(), wired.watching("-o", "json", *arguments, variables=variables) as tool:
        result = tool.wait()
    assert result.code == 0, result.said
    return result


def totals_match(server: Server, lines: list[dict[str, Any]]) -> None:
    for unit in ("packets", "bytes"):
        lost = total(lines, f"unattributed_{unit}") + total(lines, f"filtered_{unit}")
        assert last_minus_first(server, f"xtrace_network_{unit}_total") == total(lines, unit) - lost > 0
        assert last_minus_first(server, f"xtrace_interface_{unit}_total") == total(lines, unit)


def test_raw_samples_of_all_series_add_up_to_the_json_lines_of_the_same_run() -> None:
    with victoria_metrics() as server, wire() as wired:
        lines = run(wired, "--push", server.url, *intervals(8)).records
        assert total(lines, "packets") > 0
        totals_match(server, lines)
        assert_server_has_all(server, lines)
        assert_each_series_is_its_flow(server, lines)
        assert not [labels for labels in server.export("xtrace_network_bytes_total") if ("src_ip", "other") in labels]


def test_with_few_series_a_full_table_and_a_filter_the_sums_close_all_the_same() -> None:
    options = ("--max-series", "40", "--max-flows", "150", "--exclude-net", "10.1.0.32/28")
    with victoria_metrics() as server, wire() as wired:
        lines = run(wired, "--push", server.url, *options, *intervals(10)).records
        assert total(lines, "unattributed_packets") and total(lines, "filtered_packets")
        totals_match(server, lines)
        assert_server_has_all(server, lines)
        assert_each_series_is_its_flow(server, lines)
        series = server.export("xtrace_network_bytes_total")
        assert len(series) < 80, "series flap"
        assert sum(("src_ip", "other") in labels for labels in series) == 1


def test_documented_variables_push_with_the_host_its_address_and_the_users_labels() -> None:
    with victoria_metrics() as server, wire() as wired:
        variables = {
            "VICTORIAMETRICS_ENABLED": "true",
            "VICTORIAMETRICS_REMOTE_WRITE": server.url,
            "XTRACE_HOST": 'n"1\\',
            "HOST_IP": "192.0.2.9",
            "COLLECT_AGG": "pod-7",
            "XTRACE_LABELS": "rack=r1,site=a",
        }
        lines = run(wired, "--label", "rack=r2", *intervals(3), variables=variables).records
        expected = {
            ("host", 'n"1\\'),
            ("host_ip", "192.0.2.9"),
            ("collect_agg", "pod-7"),
            ("rack", "r2"),
            ("site", "a"),
        }
        found = server.export('{__name__=~"xtrace_.*"}')
        assert found
        assert all(expected <= labels for labels in found)
    for record in lines:
        assert (record["host"], record["host_ip"], record["collect_agg"]) == ('n"1\\', "192.0.2.9", "pod-7")
        assert record["labels"] == {"rack": "r2", "site": "a"}
    assert of_type(lines, "flow")
