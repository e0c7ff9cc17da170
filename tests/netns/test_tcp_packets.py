"""--tcp-packets at a router: what it says of connections is what their two ends counted."""

from __future__ import annotations

from typing import Any

from tests.netns.routed import routed
from tests.netns.test_tcp import CLOSED_PORT, PEERS, PORT, SILENT_PORT, losing, peer, retrans_segs
from tests.netns.tool import LIMIT_S, Result, bounded, flows, running
from tests.support.net import Namespace, of_type

SERVER = "10.2.0.2"
CONNECTIONS = 8 * 25
AT_SERVER = ("-i", "r2", "--direction", "both", "--tcp-packets", "-o", "json", "-t", "500ms")
"""The interface of the router that leads to the server. Both directions take two programs."""


def sums(lines: list[dict[str, Any]], field: str, way: str | None = None) -> int:
    """Over all records of connections, of one way, or of what is not of a way."""
    return sum((record[way] or {}).get(field, 0) if way else record[field] for record in of_type(lines, "tcp_path"))


def reasons(lines: list[dict[str, Any]]) -> list[str]:
    """All that was found."""
    return [reason for path in of_type(lines, "tcp_path") for reason in path["reasons"]]


def ended(lines: list[dict[str, Any]]) -> int:
    """Connections whose ends of both sides were seen."""
    return min(sums(lines, "fins", "forward"), sums(lines, "fins", "reverse"))


def run_short(client: Namespace) -> None:
    with bounded(client.start(*PEERS, "short", SERVER, str(PORT), str(CONNECTIONS // 8))) as clients:
        assert clients.wait(LIMIT_S) == 0


def test_what_is_lost_behind_the_router_is_what_both_ends_sent_again() -> None:
    with (
        routed() as (client, router, server),
        peer(server, "serve", SERVER, str(PORT)),
        losing(server, "eth0", PORT, 40),
        running(router, *AT_SERVER, programs=2) as tool,
    ):
        before = [retrans_segs(end) for end in (client, server)]
        run_short(client)
        tool.wait_until_written(lambda lines: ended(lines) >= CONNECTIONS)
        result = tool.stop()
        by_client, by_server = (retrans_segs(end) - had for end, had in zip((client, server), before, strict=True))
    lines = result.records
    assert by_client > 5
    for way, counted in (("forward", by_client), ("reverse", by_server)):
        assert sums(lines, "retransmitted_packets", way) + sums(lines, "repeated_syns", way) == counted
        assert sums(lines, "late_packets", way) == sums(lines, "untold_packets", way) == 0
    assert sums(lines, "began") == sums(lines, "fins", "forward") == CONNECTIONS
    assert all(record["opener_known"] and record["dst_port"] == PORT for record in of_type(lines, "tcp_path"))
    assert_all_are_told(result)
    assert sum(record["retransmitted_packets"] for record in of_type(lines, "tcp_paths")) == sum(
        sums(lines, "retransmitted_packets", way) for way in ("forward", "reverse")
    )


def assert_all_are_told(result: Result) -> None:
    """Every packet of TCP is of a connection, or among those that are not."""
    told = ("packets", "no_room_packets", "unread_packets", "second_pass_packets")
    counted = sum(flow["packets"] for flow in flows(result.records, protocol=6))
    assert sum(record[name] for record in of_type(result.records, "tcp_paths") for name in told) == counted > 0


def test_what_is_lost_before_the_router_leaves_gaps() -> None:
    with (
        routed() as (client, router, server),
        peer(server, "serve", SERVER, str(PORT)),
        losing(router, "r1", PORT, 40),
        running(router, *AT_SERVER, programs=2) as tool,
    ):
        before = retrans_segs(client)
        run_short(client)
        tool.wait_until_written(lambda lines: ended(lines) >= CONNECTIONS)
        result = tool.stop()
        counted = retrans_segs(client) - before
    seen = {name: sums(result.records, name, "forward") for name in ("gaps", "late_packets", "retransmitted_packets")}
    assert seen["gaps"] > 0
    # of what was lost the last of a burst leaves no gap, and what was lost once more fills it once
    assert 0 < seen["late_packets"] <= counted
    assert seen["late_packets"] + seen["retransmitted_packets"] <= counted
    assert_all_are_told(result)


def test_round_trips_are_known_where_both_directions_are_seen() -> None:
    with (
        routed() as (client, router, server),
        peer(server, "serve", SERVER, str(PORT)),
        running(router, *AT_SERVER, programs=2) as both,
        running(router, "-i", "r2", *AT_SERVER[4:], programs=1) as one,
    ):
        run_short(client)
        results = []
        for tool, way in ((both, "forward"), (one, "reverse")):
            tool.wait_until_written(lambda lines, way=way: sums(lines, "fins", way) >= CONNECTIONS)  # type: ignore[misc]
            results.append(tool.stop())
    known, unknown = (of_type(result.records, "tcp_path") for result in results)
    assert all(record["server_rtt_us"] > 0 for record in known if record["forward"]["repeated_syns"] == 0)
    assert any(record["client_rtt_us"] for record in known)
    assert sums(unknown, "packets", "reverse") > 0
    for record in unknown:
        assert (record["forward"], record["server_rtt_us"], record["client_rtt_us"]) == (None, None, None)
        assert record["reverse"]["direction"] == "ingress"
        assert record["src_ip"] == "10.1.0.2", "the answer to a SYN says who opened it"


def test_closed_window_is_told_as_long_as_it_is() -> None:
    with (
        routed() as (client, router, server),
        peer(server, "stuck", SERVER, str(PORT)),
        running(router, *AT_SERVER, programs=2) as tool,
    ):
        before = retrans_segs(client)
        with peer(client, "push", SERVER, str(PORT), says=b"full"):
            tool.wait_until_written(lambda lines: any("window closed" in reason for reason in reasons(lines)))
            result = tool.stop()
            counted = retrans_segs(client) - before
    closed = [path for path in of_type(result.records, "tcp_path") if path["health"] == "warn"]
    assert closed[-1]["reverse"]["window_closed"]
    assert closed[-1]["reverse"]["window_closed_ms"] > 0
    assert sums(result.records, "zero_windows", "reverse") > 0
    assert sums(result.records, "zero_windows", "forward") == 0
    # what arrives at a full buffer is dropped, and sent again
    assert sums(result.records, "retransmitted_packets", "forward") <= counted, "probes are none"


def test_refused_and_unanswered_connects_are_told() -> None:
    with (
        routed() as (client, router, server),
        losing(server, "eth0", SILENT_PORT, 1),
        running(router, *AT_SERVER, programs=2) as tool,
        peer(client, "connect", SERVER, str(CLOSED_PORT), says=b"111"),
        bounded(client.start(*PEERS, "connect", SERVER, str(SILENT_PORT))) as process,
    ):
        tool.wait_until_written(lambda lines: "no answer to 3 SYNs seen" in reasons(lines))
        process.terminate()
        result = tool.stop()
    paths = of_type(result.records, "tcp_path")
    assert [path["refused"] for path in paths if path["dst_port"] == CLOSED_PORT] == [1]
    silent = [path for path in paths if path["dst_port"] == SILENT_PORT]
    assert silent[-1]["reverse"] is None
    assert max(path["unanswered_syns"] for path in silent) >= 3
    assert sum(record["refused"] for record in of_type(result.records, "tcp_paths")) == 1


def test_owners_are_found_behind_the_program_that_follows_connections() -> None:
    with (
        routed() as (client, router, server),
        peer(server, "serve", SERVER, str(PORT)),
        running(router, "-i", "r1", *AT_SERVER[2:], "--owners", programs=2) as tool,
    ):
        run_short(client)
        tool.wait_until_written(lambda lines: ended(lines) >= CONNECTIONS)
        result = tool.stop()
    if not any("compare-and-swap" in line for line in result.said):
        assert "created" in {flow["owner"] for flow in flows(result.records, protocol=6)}
    assert sums(result.records, "began") == CONNECTIONS
    assert_all_are_told(result)
