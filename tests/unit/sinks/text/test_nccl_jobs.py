"""The page of mode nccl: what is wrong first, by job and communicator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xtrace.model.nccl import (
    CallTotals,
    Communicator,
    Counters,
    NcclProcess,
    NcclSnapshot,
    NicTraffic,
    Operation,
    RunCalls,
    Skipped,
)
from xtrace.model.nccl_judge import judge
from xtrace.model.nccl_ranks import Arguments, Identity, Job, OpenCall, Rank
from xtrace.model.nccl_verdicts import NORMAL, Covered, Kind, Verdict
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.text.nccl_jobs import OF_WRONG, TITLE, WRONG, NcclJobs, doing, duration
from xtrace.sinks.text.nccl_ranks import by_job
from xtrace.sinks.text.screen import Ranked

NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
JOB = Job("slurm:4711", rank=0, world_size=4)
REDUCE = Arguments("AllReduce", "float32", 1000)
RESULTS = (1, *(0,) * 9)


def rank(number: int, **fields: Any) -> Rank:
    """One of four on this host, in call 21 for a minute."""
    since = NOW - 60 * SECOND
    made = Rank(
        host="n1",
        pid=100 + number,
        at_ns=NOW,
        command="python3 train.py",
        job=replace_job(number),
        communicator="c0ffee",
        identity=Identity.UNIQUE_ID,
        address=0x1000,
        nranks=4,
        rank=number,
        is_whole=True,
        begun=21,
        last_begin_ns=since,
        open=OpenCall(REDUCE, since, 100 + number, 21),
        state="S",
    )
    return replace(made, **fields)


def replace_job(number: int) -> Job:
    return JOB._replace(rank=number)


def missing(number: int) -> Rank:
    return rank(number, begun=20, open=None, last_begin_ns=NOW - 61 * SECOND)


def process(number: int, **fields: Any) -> NcclProcess:
    """It has reduced 1000 times in the interval, 4000 bytes each."""
    operation = Operation("AllReduce", "float32", 4_000_000, Counters(1000, 10**6, 1000, 2_000_000, RESULTS))
    communicator = Communicator(0x1000, 4, number, number, (operation,))
    made = NcclProcess(100 + number, "python3 train.py", None, ("/libnccl.so.2",), True, False, (communicator,))
    return replace(made, **fields)


def snapshot(*ranks: Rank, processes: tuple[NcclProcess, ...] = (), **fields: Any) -> NcclSnapshot:
    verdicts = tuple(judge(ranks, NORMAL, Covered.ONE_HOST))
    return NcclSnapshot(NOW, SECOND, processes, CallTotals(entries=4000), ranks=ranks, verdicts=verdicts, **fields)


def page(shown: NcclSnapshot, top: int | None = None) -> list[str]:
    return [line.rstrip("\n") for line in NcclJobs(TextOptions(top)).lines(shown)]


def test_the_rank_that_is_missing_comes_first() -> None:
    other = [rank(number, communicator="beef", address=0x2000, open=None) for number in range(4)]
    lines = page(snapshot(*other, rank(0), missing(1), rank(2), rank(3)))
    assert lines[1:3] == ["job slurm:4711", "  communicator c0ffee: 4 of 4 ranks on 1 host, at call 20 to 21"]
    assert lines[3].startswith("    MISSING rank 1 (n1 pid 101, python3 train.py): it has not made call 21")
    assert lines[4] == "    rank 1 pid 101: in no call for 61.0 s"
    assert lines[5] == "    rank 0 pid 100: in AllReduce(1000 x float32) for 60.0 s"
    assert lines[8].startswith("  communicator beef: 4 of 4 ranks on 1 host, at call 21: nothing is wrong")
    assert lines[9].startswith("Calls are those that the host enqueued")


def test_title_and_verdicts_stand_out() -> None:
    lines = list(NcclJobs(TextOptions()).lines(snapshot(rank(0), missing(1), rank(2), rank(3))))
    assert {line.rank for line in lines if isinstance(line, Ranked)} == {TITLE, WRONG}


def test_a_job_with_something_wrong_comes_before_others() -> None:
    healthy = [rank(number, communicator="a", job=Job("slurm:1"), open=None) for number in range(4)]
    lines = page(snapshot(*healthy, rank(0), missing(1), rank(2), rank(3)))
    assert [line for line in lines if line.startswith("job ")] == ["job slurm:4711", "job slurm:1"]


def test_what_all_ranks_here_ask_for_is_summed_up_in_units_for_people() -> None:
    lines = page(snapshot(rank(0), rank(1), processes=(process(0), process(1))))
    assert "    AllReduce float32: 2.0 k calls/s, 8.0 MB/s requested, 2.0 us a call" in lines
    assert lines[0].endswith(" 1.0 s: 2 processes, 4.0 k calls, 8.0 MB/s requested")


def test_errors_are_told() -> None:
    failed = Counters(2, 20, 2, 2000, (0, 0, 0, 0, 2, *(0,) * 5))
    operation = Operation("AllReduce", "float32", 80, failed)
    made = process(0, communicators=(Communicator(0x1000, 4, 0, None, (operation,)),))
    lines = page(snapshot(rank(0), processes=(made,)))
    assert any(line.endswith("1.0 us a call, invalid_argument: 2") for line in lines)


@pytest.mark.parametrize("top, shown, more", [(None, 0, False), (2, 2, True), (4, 4, False), (0, 4, False)])
def test_top_says_how_many_ranks_of_a_communicator_are_shown(top: int | None, shown: int, more: bool) -> None:
    lines = page(snapshot(*(rank(number, open=None) for number in range(4))), top)
    assert sum(line.startswith("    rank ") for line in lines) == shown
    assert any(" more (--top 0 shows all)" in line for line in lines) is more


def test_of_a_communicator_with_something_wrong_some_ranks_are_shown() -> None:
    many = [rank(number, nranks=20) for number in range(20) if number != 7]
    lines = page(snapshot(*many, replace(missing(7), nranks=20)))
    assert sum(line.startswith("    rank ") for line in lines) == OF_WRONG
    assert "    and 12 ranks more (--top 0 shows all)" in lines


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"ended": True, "exit": "killed by signal 9"}, "ended (killed by signal 9)"),
        ({"ended": True}, "ended (how is not known)"),
        ({"state": "T"}, "in AllReduce(1000 x float32) for 60.0 s (state T)"),
        ({"open": None, "state": "D"}, "in no call for 60.0 s (state D)"),
        ({"open": None, "last_begin_ns": None}, "in no call"),
        (
            {"open": None, "last_begin_ns": None, "is_open_known": False},
            "no call since the tool came; whether it is in an older one is not known",
        ),
        ({"open": None, "returned": None}, "21 collectives begun; whether one is open is not known"),
        (
            {"open": OpenCall(Arguments("AllReduce"), NOW, 100, is_from_stack=True)},
            "in AllReduce since before the tool came, by its stack",
        ),
    ],
)
def test_what_a_rank_does_is_said(fields: dict[str, Any], said: str) -> None:
    assert doing(rank(0, **fields), NOW) == said


def test_gpus_are_those_of_the_communicator_else_of_the_environment() -> None:
    visible = rank(1, job=JOB._replace(visible_devices="3"))
    lines = page(snapshot(rank(0), visible, processes=(process(0),)), top=0)
    assert "    rank 0 pid 100 gpu 0: in AllReduce(1000 x float32) for 60.0 s" in lines
    assert "    rank 1 pid 101 CUDA_VISIBLE_DEVICES=3: in AllReduce(1000 x float32) for 60.0 s" in lines


def test_nics_are_told_once_for_all_their_users() -> None:
    nic = NicTraffic(("mlx5_0",), 4, 2_000_000_000, None)
    both = (process(0, nic=nic), process(1, nic=nic))
    lines = page(snapshot(rank(0), rank(1), processes=both))
    assert lines.count("  mlx5_0: out 2.0 GB, in n/a in this interval, of all their users") == 1


def test_communicators_without_a_name_stand_by_their_process() -> None:
    hidden = NcclProcess(9, "hidden", None, ("/libnccl.so.2",), False, False)
    worker = NcclProcess(8, "worker", None, ("/libnccl.so.2",), True, False)
    lines = page(snapshot(processes=(process(0), hidden, worker)))
    assert lines[0].split(": ")[1].startswith("3 processes, 1 of them without a call")
    assert lines[1:] == [
        "job no job known",
        "  pid 100 python3 train.py",
        "    communicator 0x1000: rank 0 of 4",
        "      AllReduce float32: 1.0 k calls/s, 4.0 MB/s requested, 2.0 us a call",
        "  pid 9 hidden: its calls are not seen",
    ]


def test_what_ended_is_said_and_how() -> None:
    gone = rank(0, ended=True, exit="exit status 3", open=None, state=None)
    lines = page(snapshot(gone, processes=(process(0, ended=True), process(1, ended=True))))
    assert "ended: pid 100 python3 train.py (exit status 3)" in lines
    assert "ended: pid 101 python3 train.py (or executes another program)" in lines


def test_what_is_left_out_is_in_the_title() -> None:
    lines = page(snapshot(skipped=Skipped(unprobed_files=2)))
    assert lines[0].endswith("requested, unprobed files: 2")


def test_totals_of_a_run_are_for_people() -> None:
    totals = RunCalls(CallTotals(entries=2_000_000, unattributed=5))
    assert NcclJobs(TextOptions()).totals(totals) == ("nccl: 2.0 M calls, 5 unattributed\n",)


@pytest.mark.parametrize(
    "ns, text",
    [
        (1500, "1.5 us"),
        (999_900, "999.9 us"),
        (1_000_000, "1.0 ms"),
        (999_900_000, "999.9 ms"),
        (1_000_000_000, "1.0 s"),
        (3_000_000_000, "3.0 s"),
    ],
)
def test_durations_have_units(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_jobs_and_communicators_with_something_wrong_come_first() -> None:
    """Of a job with two communicators one is healthy; it stands behind the other, and before a healthy job."""
    first, second = Job("slurm:1"), Job("slurm:2")
    ranks = [
        rank(0, communicator="a", job=first),
        rank(1, communicator="b", job=None),
        rank(2, communicator="b", job=second),
        rank(3, communicator="c", job=second),
        rank(0, communicator=None, job=second),
    ]
    wrong = Verdict(Kind.MISSING, "c", None, NOW, "it is not there")
    found = by_job(ranks, [wrong])
    assert [(job, [one.name for one in members]) for job, members in found.items()] == [
        ("slurm:2", ["c", "b"]),
        ("slurm:1", ["a"]),
    ]
    assert [one.verdicts for one in found["slurm:2"]] == [[wrong], []]
    assert [len(one.ranks) for one in found["slurm:2"]] == [1, 2]
    assert list(by_job(ranks[:3], [])) == ["slurm:1", "slurm:2"]
