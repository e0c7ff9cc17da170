"""Records of mode nccl: every field of one interval, with values that are all different."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.schema import validate
from tests.unit.make import BOOT, NS
from xtrace.model.nccl import (
    CallTotals,
    Communicator,
    Counters,
    NcclProcess,
    NcclSetup,
    NcclSnapshot,
    NicTraffic,
    Operation,
    RunCalls,
    Skipped,
)
from xtrace.model.nccl_names import RESULTS
from xtrace.model.nccl_ranks import Arguments, Identity, Job, NumberedCall, OpenCall, PeerCount, Rank
from xtrace.model.nccl_ras import Behind, RasCommunicator, RasRank, RasReport
from xtrace.model.nccl_verdicts import Kind, Verdict
from xtrace.sinks.jsonl.nccl import NcclJson
from xtrace.sinks.kinds import JsonOptions

Record = dict[str, Any]

COMMON = {"ts": "2026-01-01T00:00:05.000Z", "interval_s": 2.501, "host": "n1"}


def results(**counts: int) -> tuple[int, ...]:
    return tuple(counts.get(name, 0) for name in RESULTS)


def buckets(**counts: int) -> tuple[int, ...]:
    """Calls by the bucket's number: b0, b3."""
    return tuple(counts.get(f"b{number}", 0) for number in range(len(Counters().latency)))


REDUCE = Operation(
    "AllReduce",
    "bfloat16",
    4000,
    Counters(21, 2000, 18, 54_000, results(success=14, system_error=3, in_progress=1), buckets(b0=11, b3=7)),
)
ASKED = Operation("CommGetAsyncError", None, 0, Counters(5, 0, 4, 6000, results(success=2, remote_error=2)))
GROUP = Operation("GroupEnd", None, 0, Counters(2, 0, 1, 700, results(invalid_usage=1)))

REDUCED: Record = {
    "function": "AllReduce",
    "datatype": "bfloat16",
    "calls": 21,
    "elements": 2000,
    "requested_bytes": 4000,
    "returned": 18,
    "errors": {"system_error": 3},
    "async_errors": {},
    "in_progress": 1,
    "latency_ns": 54_000,
    "latency_buckets": [{"below_ns": 1024, "calls": 11}, {"below_ns": 8192, "calls": 7}],
}
GROUPED: Record = {
    "function": "GroupEnd",
    "datatype": None,
    "calls": 2,
    "elements": 0,
    "requested_bytes": 0,
    "returned": 1,
    "errors": {"invalid_usage": 1},
    "async_errors": {},
    "in_progress": 0,
    "latency_ns": 700,
    "latency_buckets": [],
}
PROCESS = NcclProcess(
    4711,
    "python3 train.py",
    "ab" * 32,
    ("/usr/lib/libnccl.so.2",),
    True,
    False,
    (Communicator(0x55D0, 8, 3, 6, (REDUCE, ASKED)), Communicator(0x66E0, None, None, None, ())),
    (GROUP,),
    NicTraffic(("mlx5_0", "mlx5_1"), 12, 13_000, 14_000),
)


def snapshot(*processes: NcclProcess, **fields: Any) -> NcclSnapshot:
    return NcclSnapshot(BOOT + 5 * NS, 2_500_600_000, processes, **fields)


def written(interval: NcclSnapshot) -> list[Record]:
    lines = b"".join(NcclJson(JsonOptions({"host": "n1"}, 0)).lines(interval)).splitlines()
    found = [json.loads(line) for line in lines]
    validate(found)
    return found


def test_process_and_its_communicators_have_what_was_counted() -> None:
    process, used, unused, _ = written(snapshot(PROCESS))
    assert process == {
        "type": "nccl_process",
        **COMMON,
        "pid": 4711,
        "command": "python3 train.py",
        "container": "ab" * 32,
        "libraries": ["/usr/lib/libnccl.so.2"],
        "probed": True,
        "ended": False,
        "calls": 21 + 5 + 2,
        "requested_bytes": 4000,
        "returned": 18 + 4 + 1,
        "errors": 3 + 1,
        "async_errors": 2,
        "communicators": 2,
        "cuda_devices": [6],
        "operations": [GROUPED],
        "devices": ["mlx5_0", "mlx5_1"],
        "queue_pairs": 12,
        "queue_pairs_ts": None,
        "nic_tx_bytes": 13_000,
        "nic_rx_bytes": 14_000,
    }
    operations = used.pop("operations")
    assert used == {
        "type": "nccl_communicator",
        **COMMON,
        "pid": 4711,
        "communicator": "0x55d0",
        "nranks": 8,
        "rank": 3,
        "cuda_device": 6,
        "calls": 26,
        "requested_bytes": 4000,
        "returned": 22,
        "errors": 3,
        "async_errors": 2,
    }
    assert operations[0] == REDUCED
    assert (operations[1]["errors"], operations[1]["async_errors"]) == ({}, {"remote_error": 2})
    shown = {name: unused[name] for name in ("communicator", "nranks", "rank", "cuda_device", "calls", "operations")}
    assert shown == {
        "communicator": "0x66e0",
        "nranks": None,
        "rank": None,
        "cuda_device": None,
        "calls": 0,
        "operations": [],
    }


def test_process_that_is_not_probed_has_unknown_calls_and_no_zeros() -> None:
    unseen = replace(PROCESS, probed=False, ended=True, communicators=(), operations=(), nic=None)
    process, _ = written(snapshot(unseen))
    names = ("calls", "requested_bytes", "returned", "errors", "async_errors")
    assert {process[name] for name in names} == {None}
    assert {process[name] for name in ("devices", "queue_pairs", "nic_tx_bytes", "nic_rx_bytes")} == {None}
    assert (process["probed"], process["ended"]) == (False, True)


def test_bytes_of_which_a_part_is_unknown_are_unknown() -> None:
    unsized = replace(REDUCE, requested_bytes=None)
    process, communicator, _ = written(
        snapshot(replace(PROCESS, communicators=(Communicator(1, 2, 0, 0, (unsized,)),)))
    )
    assert process["requested_bytes"] is communicator["requested_bytes"] is None
    assert communicator["operations"][0]["requested_bytes"] is None
    assert communicator["calls"] == 21


def test_interval_counts_every_hit_once_and_says_what_was_not_searched() -> None:
    totals = CallTotals(
        entries=100, nested=7, duplicate=2, unattributed=5, unattributed_elements=640, unattributed_returns=4
    )
    (record,) = written(snapshot(totals=totals, skipped=Skipped(31, 32, 33)))
    assert record == {
        "type": "nccl",
        **COMMON,
        "processes": 0,
        "calls": 91,
        "unattributed_calls": 5,
        "unattributed_elements": 640,
        "unattributed_returns": 4,
        "nested_calls": 7,
        "waiting_processes": 31,
        "cut_processes": 32,
        "unprobed_files": 33,
    }


MISSING = RasRank(3, "192.0.2.2", 9, 0, 5, is_dead=True)
SLOW = RasRank(1, "192.0.2.1", 8, 2, 4)


def test_ras_record_has_the_answer_and_its_age() -> None:
    current = RasCommunicator(
        "0x1:0x2",
        8,
        7,
        (3,),
        (6,),
        {"AllReduce": (10, 12), "Broadcast": (4, 9), "Send": (0, 0)},
        (MISSING,),
        {"AllReduce": Behind(2, (SLOW,))},
        known_as="0000000000000001",
    )
    earlier = RasCommunicator("0x3", 2, 2, (), (), {}, nccl_version="2.27.5", age_ns=61_234_900_000)
    report = RasReport("localhost:28028", BOOT, "2.28.9", (current, earlier), 5)
    answered, remembered, _ = written(snapshot(ras=report))
    assert answered == {
        "type": "nccl_ras",
        **COMMON,
        "address": "localhost:28028",
        "nccl_version": "2.28.9",
        "age_s": 0.0,
        "timeouts": 5,
        "communicator": "0x1:0x2",
        "known_as": "0000000000000001",
        "nranks": 8,
        "ranks": 7,
        "missing_ranks": [3],
        "missing": [{"rank": 3, "host": "192.0.2.2", "pid": 9, "cuda_device": 0, "nvml_device": 5, "dead": True}],
        "async_error_ranks": [6],
        "skew": 5,
        "collectives": [
            {"function": "AllReduce", "least": 10, "most": 12},
            {"function": "Broadcast", "least": 4, "most": 9},
        ],
        "behind": [
            {
                "function": "AllReduce",
                "ranks": 2,
                "first": [{"rank": 1, "host": "192.0.2.1", "pid": 8, "cuda_device": 2, "nvml_device": 4}],
            }
        ],
    }
    assert remembered["known_as"] is None
    assert (remembered["communicator"], remembered["nccl_version"], remembered["age_s"]) == ("0x3", "2.27.5", 61.235)


def test_setup_says_how_functions_are_probed_and_how_many_keys_there_are() -> None:
    setup = NcclJson(JsonOptions({}, 0)).setup(NcclSetup(map_memory=1 << 20, attach="uprobe_multi", max_keys=4096))
    assert setup == {"nccl": {"attach": "uprobe_multi", "returns": True, "max_keys": 4096, "map_memory_bytes": 1 << 20}}


CULPRIT = Rank("n2", 4712, BOOT, "python3 eval.py", "cd" * 32, "pod-2")
VERDICT = Verdict(
    Kind.MISSING,
    "c0ffee",
    Identity.PARENT,
    BOOT + NS,
    "it has not made the call",
    number=118,
    function="AllReduce",
    waiting=(0, 2, 3),
    nranks=4,
    rank=1,
    peer=5,
    culprit=CULPRIT,
    job="slurm:7",
)


def test_verdict_has_what_is_wrong_and_where_the_culprit_runs() -> None:
    named, unknown, _ = written(snapshot(verdicts=(VERDICT, replace(VERDICT, culprit=None, identity=None, job=None))))
    assert named == {
        "type": "verdict",
        **COMMON,
        "verdict": "missing",
        "communicator": "c0ffee",
        "identity": "parent",
        "job": "slurm:7",
        "nranks": 4,
        "rank": 1,
        "peer": 5,
        "rank_host": "n2",
        "pid": 4712,
        "command": "python3 eval.py",
        "container": "cd" * 32,
        "pod": "pod-2",
        "number": 118,
        "function": "AllReduce",
        "waiting": [0, 2, 3],
        "since": "2026-01-01T00:00:01.000Z",
        "evidence": "it has not made the call",
    }
    nobody = dict.fromkeys(("identity", "job", "rank_host", "pid", "command", "container", "pod"))
    assert unknown == {**named, **nobody}


RANK = Rank(
    "n1",
    4711,
    BOOT + 4 * NS,
    "python3 train.py",
    "ab" * 32,
    "pod-1",
    Job("slurm:7", 3, 8, 1, "2,6"),
    (2, 6),
    "c0ffee",
    Identity.UNIQUE_ID,
    0x55D0,
    8,
    3,
    is_whole=True,
    is_joined=False,
    begun=21,
    returned=20,
    last_begin_ns=BOOT + 1_500_000_000,
    last_return_ns=BOOT + 1_250_000_000,
    open=OpenCall(Arguments("Broadcast", "int8", 77, 5), BOOT + 1_500_400_000, 4799, 22, True, True),
    is_open_known=False,
    sleeps_in="futex_wait",
    state="S",
    ended=True,
    exit="exit status 3",
    left="CommAbort",
    calls=(NumberedCall(20, 123, Arguments("AllReduce", "float32", 1000)),),
    peers=(PeerCount(6, 31, 32, BOOT + 2 * NS, None), PeerCount(7, 33, 34, None, BOOT + 3 * NS)),
    lateness=(4, 0, 6, *(0,) * 10, 9),
    are_peers_known=False,
)


def test_rank_has_all_that_hang_reads_of_it() -> None:
    known, bare, _ = written(snapshot(ranks=(RANK, Rank("n1", 9, BOOT))))
    assert known == {
        "type": "nccl_rank",
        **COMMON,
        "pid": 4711,
        "command": "python3 train.py",
        "container": "ab" * 32,
        "pod": "pod-1",
        "job": {"name": "slurm:7", "rank": 3, "world_size": 8, "local_rank": 1, "visible_devices": "2,6"},
        "gpus": [2, 6],
        "communicator": "c0ffee",
        "identity": "unique_id",
        "address": "0x55d0",
        "nranks": 8,
        "rank": 3,
        "whole": True,
        "joined": False,
        "begun": 21,
        "returned": 20,
        "last_begin": "2026-01-01T00:00:01.500Z",
        "last_return": "2026-01-01T00:00:01.250Z",
        "open": {
            "function": "Broadcast",
            "datatype": "int8",
            "count": 77,
            "root": 5,
            "since": "2026-01-01T00:00:01.500Z",
            "open_s": 2.5,
            "thread": 4799,
            "number": 22,
            "other": True,
            "from_stack": True,
        },
        "open_known": False,
        "sleeps_in": "futex_wait",
        "state": "S",
        "ended": True,
        "left": "CommAbort",
        "exit": "exit status 3",
        "calls": [
            {
                "number": 20,
                "begin_ns": 123,
                "function": "AllReduce",
                "datatype": "float32",
                "count": 1000,
                "root": None,
            }
        ],
        "peers": [
            {"rank": 6, "sends": 31, "receives": 32, "last_send": "2026-01-01T00:00:02.000Z", "last_receive": None},
            {"rank": 7, "sends": 33, "receives": 34, "last_send": None, "last_receive": "2026-01-01T00:00:03.000Z"},
        ],
        "peers_whole": False,
        "lateness": [
            {"most_ns": 1_000_000, "calls": 4},
            {"most_ns": 5_000_000, "calls": 6},
            {"most_ns": None, "calls": 9},
        ],
    }
    usual = {"whole": False, "joined": True, "begun": 0, "returned": 0, "open_known": True, "peers_whole": True}
    none = (
        *("container", "pod", "job", "gpus", "communicator", "identity", "address", "nranks", "rank", "last_begin"),
        *("last_return", "open", "sleeps_in", "state", "left", "exit"),
    )
    assert bare == {
        "type": "nccl_rank",
        **COMMON,
        "pid": 9,
        "command": "",
        "ended": False,
        **usual,
        **dict.fromkeys(none),
        **{name: [] for name in ("calls", "peers", "lateness")},
    }


def test_a_process_that_was_seen_for_a_part_of_the_interval_has_its_own_length() -> None:
    nic = NicTraffic(("mlx5_0",), 1, read_ns=BOOT + 3 * NS)
    process, communicator, *_ = written(snapshot(replace(PROCESS, seen_ns=1_250_400_000, nic=nic)))
    assert (process["interval_s"], communicator["interval_s"]) == (1.25, 1.25)
    assert process["queue_pairs_ts"] == "2026-01-01T00:00:03.000Z"


def test_without_return_probes_what_they_count_is_null() -> None:
    process, communicator, *_ = written(snapshot(PROCESS, has_returns=False))
    for record in (process, communicator):
        assert [record[name] for name in ("returned", "errors", "async_errors")] == [None] * 3
        assert record["calls"] and record["requested_bytes"] == 4000
    operation, *_ = communicator["operations"]
    counted = ("function", "datatype", "calls", "elements", "requested_bytes")
    assert operation == {**dict.fromkeys(REDUCED), **{name: REDUCED[name] for name in counted}}


def test_the_end_has_the_calls_of_the_run() -> None:
    totals = RunCalls(CallTotals(entries=100, nested=7, duplicate=2, unattributed=5))
    assert NcclJson(JsonOptions({}, 0)).totals(totals) == {"nccl": {"calls": 91, "unattributed_calls": 5}}


@pytest.mark.parametrize(
    "field, name",
    [
        ("is_whole", "whole"),
        ("is_joined", "joined"),
        ("is_open_known", "open_known"),
        ("ended", "ended"),
        ("are_peers_known", "peers_whole"),
    ],
)
def test_each_flag_of_a_rank_is_its_own(field: str, name: str) -> None:
    plain = Rank("n1", 9, BOOT)
    flag: dict[str, Any] = {field: not getattr(plain, field)}
    usual, other, _ = written(snapshot(ranks=(plain, replace(plain, **flag))))
    assert {key for key in usual if usual[key] != other[key]} == {name}
    assert other[name] is not usual[name]


@pytest.mark.parametrize("field, name", [("is_other", "other"), ("is_from_stack", "from_stack")])
def test_each_flag_of_an_open_call_is_its_own(field: str, name: str) -> None:
    call = OpenCall(Arguments("AllReduce"), BOOT, 1)
    flag: dict[str, Any] = {field: True}
    ranks = tuple(Rank("n1", 9, BOOT, open=each) for each in (call, call._replace(**flag)))
    usual, other, _ = written(snapshot(ranks=ranks))
    assert {key for key in usual["open"] if usual["open"][key] != other["open"][key]} == {name}


@pytest.mark.parametrize("field", ["probed", "ended"])
def test_each_flag_of_a_process_is_its_own(field: str) -> None:
    plain = replace(PROCESS, communicators=(), operations=(GROUP,))
    flag: dict[str, Any] = {field: not getattr(plain, field)}
    usual, other = (written(snapshot(each))[0] for each in (plain, replace(plain, **flag)))
    counted = {"calls", "requested_bytes", "returned", "errors", "async_errors"} if field == "probed" else set()
    assert {key for key in usual if usual[key] != other[key]} == {field, *counted}
