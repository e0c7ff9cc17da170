"""Connections followed by their packets as JSON records, which the documented schema takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.schema import validate
from tests.unit.make_paths import path, sent, snapshot, sums
from xtrace.model.tcp_path import Missed, PathSetup, PathSnapshot
from xtrace.model.words import Direction, Health
from xtrace.sinks.jsonl import tcp_paths
from xtrace.sinks.jsonl.tcp_paths import PathJson
from xtrace.sinks.kinds import JsonOptions

IDENTITY = {"host": "n1"}


def records(taken: PathSnapshot, top: int = 0) -> list[dict[str, Any]]:
    written = b"".join(PathJson(JsonOptions(IDENTITY, top)).lines(taken))
    found = [json.loads(line) for line in written.splitlines()]
    validate(found)
    return found


def test_connection_has_a_record_with_both_sides() -> None:
    forward = sent(data_packets=9, retransmitted_packets=2, closed_ticks=3)
    reverse = sent(Direction.EGRESS, is_closed=True, late_bytes=7)
    (found,) = records(
        snapshot(
            path(
                forward, reverse, vlan_id=9, opened=1, refused=2, unanswered=3, server_ns=1500, has_ended=True,
                health=Health.WARN, reasons=("why",),
            )
        )
    )  # fmt: skip
    expected = {
        "type": "tcp_path",
        "host": "n1",
        "interval_s": 2.0,
        "interface": "eth0",
        "vlan": 9,
        "src_ip": "10.0.0.1",
        "src_port": 40000,
        "dst_ip": "10.0.0.2",
        "dst_port": 443,
        "opener_known": True,
        "began": 1,
        "refused": 2,
        "unanswered_syns": 3,
        "ended": True,
        "server_rtt_us": 1.5,
        "client_rtt_us": None,
        "health": "warn",
        "reasons": ["why"],
    }
    assert {name: found[name] for name in expected} == expected
    ways = {
        "forward": {"direction": "ingress", "data_packets": 9, "retransmitted_packets": 2, "window_closed_ms": 12},
        "reverse": {"direction": "egress", "window_closed": True, "late_bytes": 7, "window_closed_ms": 0},
    }
    for name, values in ways.items():
        assert {each: found[name][each] for each in values} == values


def test_side_that_was_never_seen_is_null_and_a_missing_tag_absent() -> None:
    (found,) = records(snapshot(path(sent())))
    assert found["reverse"] is None
    assert "vlan" not in found


def test_sums_have_what_is_of_no_connection() -> None:
    told = replace(
        sums(packets=12, closed_ticks=2),
        opened=3,
        refused=1,
        missed=Missed(4, 5, 6),
        server_ns=(1000, 2000, 3000),
        health=Health.WARN,
        reasons=("why",),
    )
    (found,) = records(snapshot(of=(told,)))
    expected = {
        "type": "tcp_paths",
        "interface": "eth0",
        "connections": 2,
        "packets": 12,
        "window_closed_ms": 8,
        "began": 3,
        "refused": 1,
        "no_room_packets": 4,
        "unread_packets": 5,
        "second_pass_packets": 6,
        "server_rtt_us": {"p50": 2.0, "p99": 3.0, "max": 3.0},
        "client_rtt_us": {"p50": None, "p99": None, "max": None},
        "health": "warn",
        "reasons": ["why"],
        "not_shown": 0,
    }
    assert {name: found[name] for name in expected} == expected


def test_worst_have_records_and_the_sums_say_how_many_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [path(sent(retransmitted_packets=number, data_packets=1000), src_port=number) for number in range(5)]
    found = records(snapshot(*many, of=(sums(),)), top=2)
    assert sorted(record["src_port"] for record in found[:-1]) == [3, 4]
    assert found[-1]["not_shown"] == 3
    monkeypatch.setattr(tcp_paths, "MOST_CONNECTIONS", 4)
    assert records(snapshot(*many, of=(sums(),)))[-1]["not_shown"] == 1


def test_start_record_has_room_and_memory() -> None:
    told = PathJson(JsonOptions(IDENTITY)).setup(PathSetup(4096, most=7))
    assert told == {"tcp_packets": {"max_connections": 7, "map_memory_bytes": 4096}}
    assert PathJson(JsonOptions(IDENTITY)).totals(None) == {}
