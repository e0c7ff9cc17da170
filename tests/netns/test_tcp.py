"""--tcp: what it says of connections is what happened to them, and its sums are the kernel's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ECONNREFUSED
from pathlib import Path
from typing import Any

import pytest

from tests.netns.tcp_peers import REQUEST
from tests.netns.tool import LIMIT_S, Result, bounded, eventually, running
from tests.support.net import ROOT, Namespace, of_type, quiet_pair, read_until, veth_pair

PEERS = (sys.executable, "-m", "tests.netns.tcp_peers")
PORT = 5001
CLOSED_PORT, SILENT_PORT = 81, 82
BOTH = ("-i", "far0", "--tcp", "--direction", "both", "-o", "json")
"""Both directions take two programs."""


def talk(client: subprocess.Popen[bytes], requests: int) -> dict[str, int]:
    """Let a peer that talks make so many requests; return what it says of its connection after the last one."""
    assert client.stdin is not None and client.stdout is not None
    for _ in range(requests):
        client.stdin.write(b"\n")
        client.stdin.flush()
        said: dict[str, int] = json.loads(client.stdout.readline())
    return said


@contextmanager
def peer(namespace: Namespace, *arguments: str, says: bytes = b"ready") -> Iterator[subprocess.Popen[bytes]]:
    """One of tcp_peers, from when it is ready; it ends when stdin closes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with bounded(namespace.start(*PEERS, *arguments, **pipes)) as process:
        read_until(process.stdout, says)
        yield process


@contextmanager
def losing(namespace: Namespace, interface: str, port: int, one_in: int) -> Iterator[None]:
    """The interface loses one in so many of the packets to a port."""
    command = (sys.executable, "-m", "tests.netns.lossy", interface, str(port), str(one_in))
    with bounded(namespace.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        read_until(process.stdout, b"attached")
        yield


def retrans_segs(namespace: Namespace) -> int:
    names, values = (
        line.split() for line in namespace.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("RetransSegs")])


def own(result: Result, kind: str) -> list[dict[str, Any]]:
    """The records about sockets of the tool's namespace, whose sums come first."""
    return [record for record in of_type(result.records, kind) if record["netns"] == own_netns(result)]


def behind(result: Result, kind: str) -> list[dict[str, Any]]:
    """Those about the namespace behind its veth."""
    return [record for record in of_type(result.records, kind) if record["netns"] != own_netns(result)]


def own_netns(result: Result) -> int:
    return int(of_type(result.records, "tcp")[0]["netns"])


def total(records: list[dict[str, Any]], field: str) -> int:
    return sum(record[field] or 0 for record in records)


def test_retransmissions_of_all_sockets_are_those_that_the_kernel_counted() -> None:
    with (
        veth_pair() as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        losing(pair.near, "near0", PORT, 50),
    ):
        before = retrans_segs(pair.far)
        with running(pair.far, *BOTH, "-t", "500ms", programs=2) as tool:
            with bounded(pair.far.start(*PEERS, "short", "10.0.0.1", str(PORT), "25")) as clients:
                assert clients.wait(LIMIT_S) == 0
            # the last reading is left out where it takes long
            tool.wait_until_written(lambda lines: total(of_type(lines, "tcp_connection"), "ended") >= 2 * 200)
            result = tool.stop()
        counted = retrans_segs(pair.far) - before
    assert counted > 5
    sums, connections = own(result, "tcp"), own(result, "tcp_connection")
    assert total(sums, "retrans_segs") == counted
    assert total(sums, "retransmitted_packets") + total(sums, "unseen") == counted
    assert total(sums, "unseen") == 0
    assert total(sums, "began") == total(sums, "ended") == 200
    assert total(sums, "lost_ends") == 0
    assert total(connections, "ended") == 200
    assert total(connections, "retransmitted_packets") == counted
    ended = [(record["closed_by_pid"], record["closed_by_command"]) for record in connections if record["ended"]]
    assert {pid for pid, _ in ended} == {clients.pid}


SS = {
    "rtt_us": r"\brtt:([\d.]+)/",
    "rtt_variance_us": r"\brtt:[\d.]+/([\d.]+)",
    "min_rtt_us": r"\bminrtt:([\d.]+)",
    "cwnd_packets": r"\bcwnd:(\d+)",
    "mss_bytes": r"\bmss:(\d+)",
}
"""What ss says of a connection, times in ms."""
SS_COUNTERS = {
    "retransmitted_packets": r"\bretrans:\d+/(\d+)",
    "retransmitted_bytes": r"\bbytes_retrans:(\d+)",
    "bytes_sent": r"\bbytes_sent:(\d+)",
    "bytes_acked": r"\bbytes_acked:(\d+)",
    "bytes_received": r"\bbytes_received:(\d+)",
    "data_segments_sent": r"\bdata_segs_out:(\d+)",
}
"""The same, since the connection began."""


def test_a_connection_is_as_ss_shows_it_at_the_same_moment() -> None:
    with (
        veth_pair() as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        losing(pair.near, "near0", PORT, 7),
        running(pair.far, *BOTH, "-t", "500ms", programs=2) as tool,
        peer(pair.far, "talk", "10.0.0.1", str(PORT)) as talker,
    ):
        assert talker.stdin
        for _ in range(40):
            talker.stdin.write(b"\n")
            talker.stdin.flush()
            read_until(talker.stdout, b"acked")
        # nothing happens any more, so that both look at the same state
        tool.wait_for_intervals(4)
        said = pair.far.run("ss", "-Htino", "dport", "=", f":{PORT}")
        result = tool.stop()
    found = own(result, "tcp_connection")
    shown = {name: re.findall(pattern, said) for name, pattern in {**SS, **SS_COUNTERS}.items()}
    assert all(len(values) == 1 for values in shown.values()), said
    for name in SS:
        value = float(shown[name][0])
        assert found[-1][name] == pytest.approx(1000 * value if name.endswith("_us") else value, rel=1e-5), (name, said)
    for name in SS_COUNTERS:
        assert total(found, name) == int(shown[name][0]), (name, said)
    assert total(found, "retransmitted_packets") > 0
    assert found[-1]["congestion_algorithm"] in said.split()


def test_processes_of_a_connection_are_those_that_ss_names_at_the_same_moment() -> None:
    with (
        veth_pair() as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "--owners", "-t", "500ms", programs=2) as tool,
        peer(pair.far, "talk", "10.0.0.1", str(PORT)) as client,
    ):
        talk(client, 5)
        said, name = (
            pair.far.run("ss", "-Htinp", "dport", "=", f":{PORT}"),
            Path(f"/proc/{client.pid}/comm").read_text().strip(),
        )
        result = tool.stop()
    named = {(command, int(pid)) for command, pid in re.findall(r'\("([^"]+)",pid=(\d+)', said)}
    flows = [flow for flow in of_type(result.records, "flow") if PORT in (flow["src_port"], flow["dst_port"])]
    assert {flow["direction"] for flow in flows} == {"egress", "ingress"}
    assert {(flow.get("command"), flow.get("pid")) for flow in flows} == named == {(name, client.pid)}


def test_a_reader_that_sleeps_closes_the_receivers_window() -> None:
    with (
        veth_pair() as pair,
        peer(pair.near, "stuck", "10.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "-t", "1s", programs=2) as tool,
        peer(pair.far, "push", "10.0.0.1", str(PORT), says=b"full"),
    ):
        tool.wait_for_intervals(6)
        result = tool.stop()
    held = own(result, "tcp_connection")
    assert any("receiver's window closed" in reason for record in held for reason in record["reasons"]), held
    worst = max(held, key=lambda record: record["receiver_limited_us"])
    assert worst["receiver_limited_us"] > 500_000
    assert (worst["health"], worst["limited_by"], worst["send_window_bytes"]) == ("warn", "receiver", 0)


def test_the_side_that_does_not_read_is_told_by_its_own_window() -> None:
    with (
        veth_pair() as pair,
        peer(pair.far, "stuck", "10.0.0.2", str(PORT)),
        running(pair.far, *BOTH, "-t", "500ms", programs=2) as tool,
        peer(pair.near, "push", "10.0.0.2", str(PORT), says=b"full"),
    ):
        tool.wait_for_intervals(6)
        result = tool.stop()
    held = own(result, "tcp_connection")
    if all(record["receive_window_bytes"] is None for record in held):
        pytest.xfail("this kernel does not tell the receive window")
    assert any("own receive window closed" in reason for record in held for reason in record["reasons"]), held


def test_refused_connects_are_told_by_address_and_reason() -> None:
    with veth_pair() as pair, running(pair.far, *BOTH, "-t", "1h", programs=2) as tool:
        for _ in range(3):
            assert int(pair.far.run(*PEERS, "connect", "10.0.0.1", str(CLOSED_PORT))) == ECONNREFUSED
        result = tool.stop()
    (record,) = own(result, "tcp")
    failure = {"remote_ip": "10.0.0.1", "port": CLOSED_PORT, "reason": "refused", "was_established": False, "times": 3}
    assert record["failures"] == [failure]
    assert record["failed_connects"] == {"refused": 3}
    assert record["began"] == record["ended"] == 0
    assert own(result, "tcp_connection") == []


def test_connections_that_their_process_aborts_are_counted_with_what_they_sent() -> None:
    with (
        veth_pair() as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "-t", "1h", programs=2) as tool,
    ):
        pair.far.run(*PEERS, "abort", "10.0.0.1", str(PORT), "3")
        result = tool.stop()
    (record,) = own(result, "tcp")
    assert (record["began"], record["ended"], record["bytes_sent"]) == (3, 3, 3 * len(REQUEST))
    assert record["failures"] == []


def test_connects_that_fail_on_one_socket_are_as_many_failures() -> None:
    with veth_pair() as pair, running(pair.far, *BOTH, "-t", "1h", programs=2) as tool:
        assert pair.far.run(*PEERS, "retry", "10.0.0.1", str(CLOSED_PORT), "3").split() == [str(ECONNREFUSED)] * 3
        result = tool.stop()
    (record,) = own(result, "tcp")
    assert record["failed_connects"] == {"refused": 3}
    assert record["began"] == record["ended"] == 0


def test_a_filtered_port_is_a_connect_without_an_answer() -> None:
    silent = ("connect", "10.0.0.1", str(SILENT_PORT))
    with (
        veth_pair() as pair,
        losing(pair.near, "near0", SILENT_PORT, 1),
        running(pair.far, *BOTH, "-t", "500ms", "--threshold", "tcp_timeouts=0", programs=2) as tool,
        bounded(pair.far.start(*PEERS, *silent, stdout=subprocess.PIPE)) as process,
    ):
        tool.wait_for_intervals(8)
        process.terminate()  # given up
        process.wait(LIMIT_S)
        result = tool.stop()
    waiting = [record for record in own(result, "tcp_connection") if record["state"] == "SYN_SENT"]
    assert any(reason.startswith("no answer to ") for record in waiting for reason in record["reasons"]), waiting
    failures = [failure for record in own(result, "tcp") for failure in record["failures"]]
    assert [(failure["port"], failure["reason"]) for failure in failures] == [(SILENT_PORT, "abandoned")]


def test_a_connection_says_what_the_kernel_says_of_it_and_where_its_packets_went() -> None:
    with (
        quiet_pair() as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "-t", "1h", programs=2) as tool,
        peer(pair.far, "talk", "10.0.0.1", str(PORT)) as client,
    ):
        assert client.stdin is not None and client.stdout is not None
        for _ in range(5):
            client.stdin.write(b"\n")
            client.stdin.flush()
            said = json.loads(client.stdout.readline())
        # all is acknowledged, and nothing is under way
        assert eventually(lambda: ss(pair.far, "bytes_acked") == 5 * 4000 + 1, LIMIT_S)
        result = tool.stop()
    (record,) = own(result, "tcp_connection")
    assert record["bytes_acked"] == 20001 and record["bytes_received"] == 20000
    assert record["began"] and not record["ended"]
    assert said["rtt_us"] > 0 and record["min_rtt_us"] <= record["rtt_us"]
    flows = {
        (flow["direction"], flow["packets"], flow["bytes"])
        for flow in of_type(result.records, "flow")
        if flow["protocol"] == 6
    }
    assert {(seen["direction"], seen["packets"], seen["bytes"]) for seen in record["interfaces"]} == flows
    packets = {seen["direction"]: seen["packets"] for seen in record["interfaces"]}
    assert packets == {"egress": record["segments_sent"], "ingress": record["segments_received"]}


def test_round_trip_is_at_least_the_delay_and_what_the_socket_says() -> None:
    delay_ms, requests = 20, 10
    with veth_pair() as pair:
        command = (sys.executable, "-m", "tests.netns.delay", pair.near.name, pair.far.name, str(delay_ms))
        link = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with bounded(link):
            read_until(link.stdout, b"ready")
            with (
                peer(pair.near, "serve", "10.9.0.1", str(PORT)),
                running(pair.far, "-i", "slow0", *BOTH[2:], "-t", "1h", programs=2) as tool,
                peer(pair.far, "talk", "10.9.0.1", str(PORT)) as client,
            ):
                said = talk(client, requests)
                result = tool.stop()
    (record,) = own(result, "tcp_connection")
    assert record["rtt_us"] == said["rtt_us"]
    assert record["rtt_us"] >= record["min_rtt_us"] >= 2 * delay_ms * 1000


def ss(namespace: Namespace, field: str) -> int:
    """A field of the one connection, as iproute2 shows it."""
    shown = namespace.run("ss", "-tin", "state", "established")
    return next((int(word.partition(":")[2]) for word in shown.split() if word.startswith(f"{field}:")), -1)


def test_connections_elsewhere_are_not_those_of_the_interface() -> None:
    with (
        veth_pair() as pair,
        peer(pair.far, "serve", "127.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "-t", "1h", programs=2) as tool,
    ):
        pair.far.run(*PEERS, "short", "127.0.0.1", str(PORT), "2")
        result = tool.stop()
    assert own(result, "tcp_connection") == []
    (record,) = own(result, "tcp")
    assert record["began"] == 2 * 16


def test_sockets_behind_a_veth_are_read_and_what_they_send_enters_it() -> None:
    with (
        quiet_pair() as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "-t", "1h", programs=2) as tool,
    ):
        pair.far.run(*PEERS, "short", "10.0.0.1", str(PORT), "1")
        # the server's sockets end when they have read to the end
        assert eventually(lambda: "ESTAB" not in pair.near.run("ss", "-tan"), LIMIT_S)
        result = tool.stop()
    client, server = own(result, "tcp_connection"), behind(result, "tcp_connection")
    assert total(behind(result, "tcp"), "began") == 8
    assert len(client) == len(server) == 8
    for record in (*client, *server):
        packets = {seen["direction"]: seen["packets"] for seen in record["interfaces"]}
        ways = ("egress", "ingress") if record in client else ("ingress", "egress")
        for way, field in zip(ways, ("segments_sent", "segments_received"), strict=True):
            assert 0 <= packets[way] - record[field] <= 1, "what TIME_WAIT sends and receives is not the socket's"


def test_namespace_behind_a_veth_can_be_deleted_while_the_tool_runs() -> None:
    with veth_pair() as pair:
        name = f"{pair.far.name}-plug"
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            pair.far.ip(f"link add plug0 type veth peer name plug1 netns {name}")
            pair.far.ip("link set plug0 up")
            with running(pair.far, "-i", "far0,plug0", "--tcp", "-t", "200ms", "-o", "json", programs=2) as tool:
                tool.wait_for_intervals(6)
                subprocess.run(["ip", "netns", "delete", name], check=True)
                assert eventually(lambda: "plug0" not in pair.far.ip("link"), LIMIT_S), "its veth is kept alive"
                result = tool.stop()
        finally:
            if Path("/run/netns", name).exists():
                subprocess.run(["ip", "netns", "delete", name], check=True)
    read = of_type(result.records, "tcp")
    assert len({record["netns"] for record in read}) == 3
    assert read[-1]["errors"] == []
