"""--tcp over a link on which netem loses and delays packets: its sums are the kernel's, its round trips the link's.

XTRACE_CONNECTIONS says how many short connections there are; XTRACE_LIMIT_S how long they may take.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.netns.test_tcp import BOTH, PEERS, PORT, own, peer, talk, total
from tests.netns.tool import LIMIT_S, bounded, eventually, running
from tests.support.net import Namespace, Pair, of_type, records, veth_pair

CONNECTIONS = int(os.environ.get("XTRACE_CONNECTIONS", "400"))
THREADS = 8
LOSS_PERCENT, DELAY_MS = 2, 10
"""In each direction."""
REQUESTS = 20
QUEUE_PACKETS = 100_000
NO_NETEM = ("qdisc not found", "qdisc kind is unknown", "No such file or directory")


@contextmanager
def link(loss_percent: int) -> Iterator[Pair]:
    """A pair whose ends delay what they send, and lose a part of it."""
    with veth_pair() as pair:
        netem = ("netem", "limit", str(QUEUE_PACKETS), "delay", f"{DELAY_MS}ms", "loss", f"{loss_percent}%")
        for namespace, name in ((pair.near, pair.near_if), (pair.far, pair.far_if)):
            command = namespace.command("tc", "qdisc", "add", "dev", name, "root", *netem)
            done = subprocess.run(command, capture_output=True, text=True)
            if any(words in done.stderr for words in NO_NETEM):
                pytest.xfail("this kernel has no netem")
            assert done.returncode == 0, done.stderr
        yield pair


def kernels(namespace: Namespace, table: str, name: str) -> int:
    """A counter of TCP's: `Tcp` or `TcpExt`, and its name there."""
    file = {"Tcp": "/proc/net/snmp", "TcpExt": "/proc/net/netstat"}[table]
    lines = (line.split() for line in namespace.run("cat", file).splitlines())
    names, values = (words for words in lines if words[0] == f"{table}:")
    return int(values[names.index(name)])


def finished(namespace: Namespace) -> bool:
    """Whether no connection has anything left to send."""
    return namespace.run("ss", "-Htan", "exclude", "listening", "exclude", "time-wait") == ""


def twice(connections: Sequence[dict[str, Any]]) -> str:
    """What is said of ports with more than one end, to show with a failure."""
    ends = Counter((record["local_port"], record["remote_port"]) for record in connections if record["ended"])
    names = (
        "ts",
        "local_port",
        "remote_port",
        "state",
        "began",
        "ended",
        "error",
        "segments_sent",
        "segments_received",
    )
    return "\n".join(
        str({name: record.get(name) for name in (*names, "bytes_received", "retransmitted_packets")})
        for record in connections
        if ends[record["local_port"], record["remote_port"]] > 1
    )


def test_retransmissions_of_short_connections_on_a_lossy_link(record_property: Callable[[str, object], None]) -> None:
    with link(LOSS_PERCENT) as pair, peer(pair.near, "serve", "10.0.0.1", str(PORT)):
        before = [kernels(namespace, "Tcp", "RetransSegs") for namespace in (pair.far, pair.near)]
        with running(pair.far, *BOTH, "-t", "1s", programs=2) as tool:
            each = str(CONNECTIONS // THREADS)
            with bounded(pair.far.start(*PEERS, "short", "10.0.0.1", str(PORT), each)) as clients:
                assert clients.wait(LIMIT_S) == 0
            assert eventually(lambda: finished(pair.far) and finished(pair.near), LIMIT_S)
            # the last reading is left out where it takes long
            tool.wait_until_written(lambda lines: total(of_type(lines, "tcp_connection"), "ended") >= 2 * CONNECTIONS)
            lines = records(tool.stop().stdout)
        after = [kernels(namespace, "Tcp", "RetransSegs") for namespace in (pair.far, pair.near)]
        repeated_answers = kernels(pair.near, "TcpExt", "TCPSynRetrans")
    sums = of_type(lines, "tcp")
    here = sums[0]["netns"]
    for place, of_place, most_unseen, counted in (
        ("clients", [record for record in sums if record["netns"] == here], 0, after[0] - before[0]),
        ("server", [record for record in sums if record["netns"] != here], repeated_answers, after[1] - before[1]),
    ):
        names = ("began", "ended", "retransmitted_packets", "unseen", "retrans_segs", "lost_ends")
        found = {name: total(of_place, name) for name in names}
        record_property(place, {"RetransSegs": counted, **found})
        assert counted > 0
        assert found["retrans_segs"] == counted
        assert found["retransmitted_packets"] + found["unseen"] == counted
        assert 0 <= found["unseen"] <= most_unseen
        netns = of_place[0]["netns"]
        of_each = [record for record in of_type(lines, "tcp_connection") if record["netns"] == netns]
        assert (found["began"], found["ended"], found["lost_ends"]) == (CONNECTIONS, CONNECTIONS, 0), twice(of_each)
        assert total(of_each, "retransmitted_packets") == found["retransmitted_packets"]


def test_round_trip_is_netems_delay(record_property: Callable[[str, object], None]) -> None:
    with (
        link(0) as pair,
        peer(pair.near, "serve", "10.0.0.1", str(PORT)),
        running(pair.far, *BOTH, "-t", "1h", programs=2) as tool,
        peer(pair.far, "talk", "10.0.0.1", str(PORT)) as client,
    ):
        said = talk(client, REQUESTS)
        result = tool.stop()
    (record,) = own(result, "tcp_connection")
    record_property("round trip", {name: record[name] for name in ("min_rtt_us", "rtt_us", "rtt_variance_us")})
    assert record["rtt_us"] == said["rtt_us"]
    assert record["rtt_us"] >= record["min_rtt_us"] >= 2 * DELAY_MS * 1000
