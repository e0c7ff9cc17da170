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
from xtrace.sinks.jsonl.tcp import GROWN, LEVELS, TcpJson, quantile
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


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile((), 0.5) is None
    assert [quantile(range(100), part) for part in (0.5, 0.99, 1.0)] == [50, 99, 99]
