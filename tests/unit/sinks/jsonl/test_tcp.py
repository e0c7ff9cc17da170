"""The health of TCP connections as JSON records, which the documented schema takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.schema import validate
from tests.unit.make import packed
from tests.unit.make_tcp import SEEN, connection, snapshot, sums
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import COUNTERS, Closer, Failure, NamespaceSums, Reason, TcpSetup, TcpSnapshot
from xtrace.model.words import Health
from xtrace.sinks.jsonl import tcp
from xtrace.sinks.jsonl.tcp import GROWN, LEVELS, TcpJson
from xtrace.sinks.kinds import JsonOptions

IDENTITY = {"host": "n1"}


def records(taken: TcpSnapshot, top: int = 0) -> list[dict[str, Any]]:
    written = b"".join(TcpJson(JsonOptions(IDENTITY, top)).lines(taken))
    found = [json.loads(line) for line in written.splitlines()]
    validate(found)
    return found


def test_connection_has_a_record_with_growth_levels_and_interfaces() -> None:
    grown = {lib.TCP_BYTES_ACKED: 5000, lib.TCP_RETRANSMITTED: 2, lib.TCP_BUSY: 4_000_000}
    levels = {lib.TCP_RTT: 300, lib.TCP_CA_STATE: 3, lib.TCP_SSTHRESH: 0x7FFF_FFFF, lib.TCP_PACING: 2**64 - 1}
    found, _ = records(snapshot(connection(grown, levels, seen=SEEN, health=Health.WARN, reasons=("why",))))
    expected = {
        "type": "tcp_connection",
        "host": "n1",
        "interval_s": 5.0,
        "local_ip": "10.0.0.2",
        "local_port": 40000,
        "remote_ip": "10.0.0.1",
        "remote_port": 443,
        "state": "ESTABLISHED",
        "began": False,
        "ended": False,
        "error": None,
        "closed_by_pid": None,
        "closed_by_command": None,
        "health": "warn",
        "reasons": ["why"],
        "limited_by": "network",
        "congestion_algorithm": "cubic",
        "congestion_state": "recovery",
        "rtt_us": 300,
        "min_rtt_us": 0,
        "ssthresh_packets": None,
        "pacing_bytes_per_s": None,
        "bytes_acked": 5000,
        "retransmitted_packets": 2,
        "interfaces": [
            {"interface": "eth0", "direction": "egress", "packets": 10, "bytes": 1500},
            {"interface": "eth0", "direction": "ingress", "packets": 5, "bytes": 330},
        ],
    }
    assert {name: found[name] for name in expected} == expected


def test_every_value_of_the_kernel_has_a_field() -> None:
    assert {*GROWN.values()} == set(range(COUNTERS))
    assert {*LEVELS.values(), lib.TCP_CA_STATE} == set(range(COUNTERS, lib.TCP_VALUES))


def test_what_is_not_known_is_null() -> None:
    nothing = tuple(range(lib.TCP_VALUES))
    found, _ = records(snapshot(connection(unknown=nothing, congestion="", has_ended=True, error=104)))
    assert {found[name] for name in (*GROWN, *LEVELS, "congestion_state", "congestion_algorithm")} == {None}
    assert (found["ended"], found["error"]) == (True, 104)


def test_process_that_closed_a_connection_is_named() -> None:
    found, _ = records(snapshot(connection(has_ended=True)._replace(closer=Closer(4711, "curl"))))
    assert (found["closed_by_pid"], found["closed_by_command"]) == (4711, "curl")


def test_sums_have_a_record_with_what_no_socket_showed() -> None:
    failures = (
        Failure(packed("10.0.0.1"), 81, Reason.REFUSED, False, 3),
        Failure(bytes(16), 0, Reason.REFUSED, False, 4),
        Failure(packed("10.0.0.1"), 443, Reason.RESET, True, 1),
    )
    (found,) = records(snapshot(namespaces=(sums(failures=failures),)))
    expected = {
        "type": "tcp",
        "connections": 812,
        "retransmitted_packets": 12,
        "retrans_segs": 13,
        "unseen": 1,
        "while_reading": 1,
        "lost_ends": 0,
        "rtt_us": {"p50": 300, "p99": 1300, "max": 1300},
        "failed_connects": {"refused": 7},
        "broken_connections": {"reset": 1},
        "health": "ok",
        "not_shown": 0,
    }
    assert {name: found[name] for name in expected} == expected
    assert [failure["remote_ip"] for failure in found["failures"]] == ["10.0.0.1", None, "10.0.0.1"]


def test_sums_that_could_not_be_read_are_null_not_zero() -> None:
    (found,) = records(snapshot(namespaces=(NamespaceSums(7, lost_ends=None, errors=("ENOENT",)),)))
    unknown = ("connections", "began", "ended", "retransmitted_packets", "retrans_segs", "unseen", "lost_ends")
    assert {found[name] for name in unknown} == {None}
    assert found["errors"] == ["ENOENT"]


def test_limited_output_has_the_worst_and_says_how_many_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = snapshot(*(connection({lib.TCP_RETRANSMITTED: again}) for again in range(5)))
    *shown, all_of_them = records(taken, top=2)
    assert [record["retransmitted_packets"] for record in shown] == [4, 3]
    assert all_of_them["not_shown"] == 3
    monkeypatch.setattr(tcp, "MOST_CONNECTIONS", 1)
    assert len(records(taken, top=2)) == 2


def test_setup_tells_whether_ends_are_seen() -> None:
    told = TcpJson(JsonOptions(IDENTITY)).setup(TcpSetup(4096, sees_ends=True))
    assert told == {"tcp": {"sees_ends": True, "map_memory_bytes": 4096}}


OF_COUNTERS = {
    "retransmitted_packets": "TCP_RETRANSMITTED",
    "retransmitted_bytes": "TCP_BYTES_RETRANSMITTED",
    "segments_sent": "TCP_SEGMENTS_SENT",
    "segments_received": "TCP_SEGMENTS_RECEIVED",
    "data_segments_sent": "TCP_DATA_SENT",
    "data_segments_received": "TCP_DATA_RECEIVED",
    "bytes_sent": "TCP_BYTES_SENT",
    "bytes_acked": "TCP_BYTES_ACKED",
    "bytes_received": "TCP_BYTES_RECEIVED",
    "delivered_packets": "TCP_DELIVERED",
    "ecn_ce_packets": "TCP_DELIVERED_CE",
    "duplicate_packets": "TCP_DUPLICATES",
    "reorderings": "TCP_REORDERED",
    "out_of_order_packets": "TCP_OUT_OF_ORDER",
    "busy_us": "TCP_BUSY",
    "receiver_limited_us": "TCP_RECEIVER_LIMITED",
    "send_buffer_limited_us": "TCP_BUFFER_LIMITED",
}
"""Fields and what the kernel's tcp_info says of them, as docs/output.md explains both."""
OF_LEVELS = {
    "rtt_us": "TCP_RTT",
    "rtt_variance_us": "TCP_RTT_VARIANCE",
    "min_rtt_us": "TCP_MIN_RTT",
    "receiver_rtt_us": "TCP_RECEIVER_RTT",
    "rto_us": "TCP_RTO",
    "mss_bytes": "TCP_SEND_MSS",
    "cwnd_packets": "TCP_CWND",
    "ssthresh_packets": "TCP_SSTHRESH",
    "send_window_bytes": "TCP_SEND_WINDOW",
    "receive_window_bytes": "TCP_RECEIVE_WINDOW",
    "unacked_packets": "TCP_UNACKED",
    "lost_packets": "TCP_LOST",
    "unsent_bytes": "TCP_NOT_SENT",
    "unread_bytes": "TCP_UNREAD",
    "pacing_bytes_per_s": "TCP_PACING",
    "delivery_bytes_per_s": "TCP_DELIVERY_RATE",
    "timeouts": "TCP_TIMEOUTS",
    "probes": "TCP_PROBES",
}


def test_every_field_has_the_kernels_value_of_its_meaning() -> None:
    """Every value is another one, so that none can stand in another's place."""
    grown = {getattr(lib, name): 100 + at for at, name in enumerate(OF_COUNTERS.values())}
    levels = {getattr(lib, name): 5000 + at for at, name in enumerate(OF_LEVELS.values())}
    found, _ = records(snapshot(connection(grown, levels)))
    assert {name: found[name] for name in OF_COUNTERS} == {name: 100 + at for at, name in enumerate(OF_COUNTERS)}
    assert {name: found[name] for name in OF_LEVELS} == {name: 5000 + at for at, name in enumerate(OF_LEVELS)}
    counted = tuple(700 + at for at in range(COUNTERS))
    (of_all,) = records(snapshot(namespaces=(sums(sums=counted),)))
    summed = (
        *("retransmitted_packets", "retransmitted_bytes", "segments_sent", "segments_received"),
        *("bytes_sent", "bytes_acked", "bytes_received", "ecn_ce_packets", "duplicate_packets", "out_of_order_packets"),
    )
    assert {name: of_all[name] for name in summed} == {name: 700 + getattr(lib, OF_COUNTERS[name]) for name in summed}


@pytest.mark.parametrize("state, name", list(enumerate(["open", "disorder", "cwr", "recovery", "loss"])))
def test_states_of_congestion_control_have_the_kernels_names(state: int, name: str) -> None:
    found, _ = records(snapshot(connection({}, {lib.TCP_CA_STATE: state})))
    assert found["congestion_state"] == name
    beyond, _ = records(snapshot(connection({}, {lib.TCP_CA_STATE: 5})))
    assert beyond["congestion_state"] is None


def test_of_each_namespace_the_connections_that_are_not_shown_are_counted() -> None:
    own = [connection({lib.TCP_RETRANSMITTED: again}) for again in range(3)]
    other = [connection()._replace(netns=8) for _ in range(2)]
    taken = snapshot(*own, *other, namespaces=(sums(), sums(netns=8)))
    *shown, first, second = records(taken, top=2)
    assert [record["retransmitted_packets"] for record in shown] == [2, 1]
    assert [(record["netns"], record["not_shown"]) for record in (first, second)] == [(7, 1), (8, 2)]


def test_only_so_many_failures_have_a_record_and_all_are_counted() -> None:
    failures = tuple(
        Failure(packed("10.0.0.1"), port, Reason.REFUSED, False, 1) for port in range(tcp.MOST_FAILURES + 5)
    )
    (found,) = records(snapshot(namespaces=(sums(failures=failures),)))
    assert [failure["port"] for failure in found["failures"]] == list(range(tcp.MOST_FAILURES))
    assert found["failed_connects"] == {"refused": tcp.MOST_FAILURES + 5}
    assert found["failures"][0] == {
        "remote_ip": "10.0.0.1",
        "port": 0,
        "reason": "refused",
        "was_established": False,
        "times": 1,
    }
