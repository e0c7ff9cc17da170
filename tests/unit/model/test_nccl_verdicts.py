"""Verdicts about made-up ranks: what is said, about whom, and what is not said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xtrace.model.nccl_judge import judge
from xtrace.model.nccl_ranks import Arguments, Identity, Job, NumberedCall, OpenCall, PeerCount, Rank, without_replaced
from xtrace.model.nccl_verdicts import Covered, Kind, Limits, Verdict

NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
LIMITS = Limits(hang_ns=10 * SECOND, late_ns=SECOND // 10)
REDUCE = Arguments("AllReduce", "float32", 1000)
INIT = Arguments("CommInitRank")


def rank(number: int, begun: int = 12, ago_s: float = 20, **fields: Any) -> Rank:
    """A rank of four in call `begun` since so many seconds, on its own host."""
    since = NOW - round(ago_s * SECOND)
    made = Rank(
        host=f"n{number}",
        pid=100 + number,
        at_ns=NOW,
        communicator="c",
        identity=Identity.UNIQUE_ID,
        address=0x1000,
        nranks=4,
        rank=number,
        is_whole=True,
        begun=begun,
        returned=begun - 1,
        last_begin_ns=since,
        last_return_ns=since - SECOND,
        open=OpenCall(REDUCE, since, 100 + number, begun),
        state="S",
        calls=(NumberedCall(begun, since, REDUCE),),
    )
    return replace(made, **fields)


def behind(number: int, **fields: Any) -> Rank:
    """A rank that is in no call, and has not made the one that others wait in."""
    return replace(rank(number, begun=11, ago_s=21), open=None, returned=11, **fields)


def judged(*ranks: Rank, covered: Covered = Covered.ALL_HOSTS, limits: Limits = LIMITS) -> list[Verdict]:
    return judge(ranks, limits, covered)


def only(*ranks: Rank, **options: Any) -> Verdict:
    (verdict,) = judged(*ranks, **options)
    return verdict


OTHERS = (rank(0), rank(1), rank(3))


def test_the_rank_that_has_not_made_the_call_is_missing() -> None:
    verdict = only(*OTHERS, behind(2))
    assert (verdict.kind, verdict.rank, verdict.number, verdict.waiting) == (Kind.MISSING, 2, 12, (0, 1, 3))
    assert (verdict.function, verdict.since_ns) == ("AllReduce", NOW - 20 * SECOND)
    assert verdict.evidence == (
        "it has not made call 12, AllReduce(1000 x float32), which ranks 0, 1, 3 wait in;"
        " it is in no NCCL call, the last one was 21.0 s ago"
    )


@pytest.mark.parametrize(
    "fields, kind, said",
    [
        ({"state": "T"}, Kind.STOPPED, "its process is stopped (state T); "),
        ({"state": "D"}, Kind.STOPPED, "it is in uninterruptible sleep (state D); "),
        ({"state": None, "ended": True}, Kind.GONE, "its process has ended (how is not known); "),
        ({"ended": True, "exit": "killed by signal 9"}, Kind.GONE, "its process has ended (killed by signal 9); "),
    ],
)
def test_why_it_is_missing_is_said_where_it_is_known(fields: dict[str, Any], kind: Kind, said: str) -> None:
    verdict = only(*OTHERS, behind(2, **fields))
    assert (verdict.kind, verdict.rank) == (kind, 2)
    assert verdict.evidence.startswith(said)


def test_whoever_waits_for_less_than_the_limit_does_not_hang() -> None:
    assert judged(rank(0, ago_s=9), rank(1), rank(3), behind(2)) == []
    assert judged(*OTHERS, behind(2), limits=Limits(None, None)) == []


def test_a_rank_that_goes_on_is_not_missing() -> None:
    assert judged(*OTHERS, behind(2, last_begin_ns=NOW - SECOND)) == []


def test_a_rank_that_goes_on_elsewhere_is_missing_here() -> None:
    other = OpenCall(REDUCE, NOW - SECOND // 10, 102, 7, is_other=True)
    verdict = only(*OTHERS, replace(behind(2), open=other))
    assert (verdict.kind, verdict.rank) == (Kind.MISSING, 2)
    assert verdict.evidence.endswith(
        "it is in AllReduce(1000 x float32) on another communicator since 100 ms (thread 102)"
    )


def test_what_a_thread_of_another_rank_may_do_is_not_said_of_this_one() -> None:
    """Ranks 1 and 2 are threads of one process."""
    shared = replace(OTHERS[1], pid=102, host="n2")
    group = OpenCall(Arguments("GroupEnd"), NOW - SECOND, 105, is_other=True)
    verdict = only(OTHERS[0], shared, OTHERS[2], replace(behind(2), open=group))
    assert verdict.evidence.endswith(
        "a thread of its process, perhaps another rank's, is in GroupEnd since 1.0 s (thread 105)"
    )
    verdict = only(OTHERS[0], shared, OTHERS[2], behind(2, state="D"))
    assert verdict.kind == Kind.MISSING


def test_a_rank_whose_records_end_too_early_to_tell_is_not_missing() -> None:
    assert judged(*OTHERS, behind(2, at_ns=NOW - 12 * SECOND)) == []
    assert judged(*(replace(one, at_ns=NOW - 12 * SECOND) for one in OTHERS), behind(2)) == []


def test_clocks_that_differ_do_not_change_who_is_missing() -> None:
    """The second host's clock is an hour behind."""
    hour = 3600 * SECOND
    late = behind(2)
    shifted = replace(
        late,
        at_ns=late.at_ns - hour,
        last_begin_ns=(late.last_begin_ns or 0) - hour,
        last_return_ns=(late.last_return_ns or 0) - hour,
    )
    verdict = only(*OTHERS, shifted)
    assert (verdict.kind, verdict.rank) == (Kind.MISSING, 2)
    assert verdict.evidence.endswith("the last one was 21.0 s ago")


@pytest.mark.parametrize("function", ["CommAbort", "CommDestroy"])
def test_a_rank_that_left_the_communicator_is_missing(function: str) -> None:
    left = f"; it has left the communicator ({function})"
    for gone in (behind(2, left=function), replace(rank(2), open=None, left=function)):
        verdict = only(*OTHERS, gone)
        assert (verdict.kind, verdict.rank) == (Kind.MISSING, 2)
        assert verdict.evidence.endswith(left)


def test_those_that_still_end_the_communicator_do_not_wait_for_one_that_has() -> None:
    ending = OpenCall(Arguments("CommDestroy"), NOW - 20 * SECOND, 1)
    assert judged(*(replace(one, open=ending) for one in OTHERS), replace(rank(2), open=None, left="CommDestroy")) == []
    assert judged(replace(rank(0), open=None, left="CommDestroy"), replace(rank(1), open=None)) == []


def test_calls_that_were_enqueued_and_returned_count_as_made() -> None:
    verdict = only(*(replace(one, open=None, returned=12) for one in OTHERS), behind(2))
    assert (verdict.kind, verdict.rank, verdict.function) == (Kind.MISSING, 2, None)
    assert "which ranks 0, 1, 3 have made" in verdict.evidence


def test_a_job_that_does_nothing_is_no_hang() -> None:
    assert judged(*(replace(rank(number), open=None, returned=12) for number in range(4))) == []


def test_all_in_the_same_call_are_stopped_and_nobody_is_to_blame() -> None:
    verdict = only(*OTHERS, rank(2))
    assert (verdict.kind, verdict.rank, verdict.culprit) == (Kind.ALL_STOPPED, None, None)


def test_ranks_elsewhere_are_not_judged_by_one_host_alone() -> None:
    assert judged(*OTHERS, covered=Covered.ONE_HOST) == []
    assert "of rank 2 there are no records" in only(*OTHERS).evidence


def test_one_that_ended_within_the_call_is_gone() -> None:
    assert only(*OTHERS, rank(2, ended=True)).kind is Kind.GONE


@pytest.mark.parametrize(
    "wrong, usual",
    [
        (Arguments("AllReduce", "float32", 999), REDUCE),
        (Arguments("AllReduce", "float16", 1000), REDUCE),
        (Arguments("AllGather", "float32", 1000), REDUCE),
        (Arguments("Broadcast", "float32", 1000, 1), Arguments("Broadcast", "float32", 1000, 0)),
    ],
)
def test_a_call_with_other_arguments_is_a_mismatch(wrong: Arguments, usual: Arguments) -> None:
    ranks = [replace(rank(number), calls=(NumberedCall(12, NOW - SECOND, usual),)) for number in (0, 1, 3)]
    verdict = only(*ranks, replace(rank(2), calls=(NumberedCall(12, NOW - SECOND, wrong),)))
    assert (verdict.kind, verdict.rank, verdict.number) == (Kind.MISMATCH, 2, 12)
    assert verdict.evidence == f"its call 12 is {wrong}, that of ranks 0, 1, 3 is {usual}"


def test_functions_that_are_one_are_no_mismatch() -> None:
    same = [
        Arguments("Bcast", "int8", 5, 0),
        Arguments("Broadcast", "int8", 5, 0),
        Arguments("BroadcastConfig", "int8", 5, 0),
    ]
    ranks = [replace(rank(number), open=None, calls=(NumberedCall(12, NOW, same[number % 3]),)) for number in range(4)]
    assert judged(*ranks) == []


def test_without_a_majority_nobody_is_to_blame() -> None:
    other = (NumberedCall(12, NOW, Arguments("AllReduce", "float32", 999)),)
    verdict = only(rank(0, nranks=2), rank(1, nranks=2, calls=other))
    assert (verdict.kind, verdict.rank) == (Kind.MISMATCH, None)
    assert "no majority tells which is meant: rank 0: AllReduce(1000 x float32); rank 1: " in verdict.evidence


SEND = OpenCall(Arguments("Send", "float32", 8, 3), NOW - 20 * SECOND, 102)


@pytest.mark.parametrize("opened", [SEND, SEND._replace(arguments=Arguments("GroupEnd"), is_other=True)])
def test_a_send_without_its_receive_is_named_with_the_other_rank(opened: OpenCall) -> None:
    sent = behind(2, peers=(PeerCount(3, 2, 0, NOW - 20 * SECOND, None),))
    receiver = rank(3, peers=(PeerCount(2, 0, 1, None, NOW - 30 * SECOND),))
    verdict = only(rank(0), rank(1), receiver, replace(sent, open=opened))
    assert (verdict.kind, verdict.rank, verdict.peer) == (Kind.OPEN_SEND, 2, 3)
    assert "with 2 sends to rank 3, which has made 1 receives from it" in verdict.evidence


def test_a_send_is_not_called_open_where_receives_are_not_known() -> None:
    sent = replace(behind(2, peers=(PeerCount(3, 2, 0, NOW - 20 * SECOND, None),)), open=SEND)
    assert only(rank(0), rank(1), rank(3, are_peers_known=False), sent).kind is Kind.MISSING
    assert only(rank(0), rank(1), sent).kind is Kind.MISSING


def joining(number: int, ago_s: float = 20) -> Rank:
    made = rank(number, begun=0, is_joined=False, address=None, calls=(), last_begin_ns=None, last_return_ns=None)
    return replace(made, open=OpenCall(INIT, NOW - round(ago_s * SECOND), 100 + number, 0))


def test_a_rank_that_was_not_seen_has_not_joined() -> None:
    verdict = only(joining(0), joining(1), joining(3))
    assert (verdict.kind, verdict.rank, verdict.number, verdict.culprit) == (Kind.MISSING, 2, 0, None)
    assert "seen are only hosts n0, n1, n3" in verdict.evidence
    assert judged(joining(0), joining(1), joining(3), covered=Covered.ONE_HOST) == []


def test_waiting_for_one_begins_with_the_first_and_for_each_other_with_the_last() -> None:
    assert only(joining(0, ago_s=30), joining(1), joining(3, ago_s=15)).since_ns == NOW - 30 * SECOND
    assert only(rank(0, ago_s=30), rank(1), behind(2), rank(3, ago_s=15)).since_ns == NOW - 30 * SECOND
    assert only(rank(0, ago_s=30), rank(1), rank(2), rank(3, ago_s=15)).since_ns == NOW - 15 * SECOND


def test_a_rank_is_not_missing_whose_records_may_be_among_those_left_out() -> None:
    verdict = only(joining(0), joining(1), joining(3), covered=Covered.IN_PART)
    assert (verdict.kind, verdict.rank) == (Kind.ALL_STOPPED, None)
    assert verdict.evidence.endswith("; of rank 2 there are no records that go so far")
    assert judged(older(0), older(1), older(3), covered=Covered.IN_PART) == []


def test_a_rank_that_does_not_come_out_of_the_init_call_is_missing() -> None:
    verdict = only(*(rank(number, begun=1) for number in (0, 1, 3)), joining(2))
    assert (verdict.kind, verdict.rank, verdict.number) == (Kind.MISSING, 2, 1)
    assert "it is in CommInitRank since 20.0 s" in verdict.evidence


def marked(number: int, late_s: float, numbers: tuple[int, ...] = (4, 6, 7, 8), host: str = "n") -> Rank:
    calls = tuple(NumberedCall(call, NOW - (9 - call) * SECOND + round(late_s * SECOND), REDUCE) for call in numbers)
    return replace(rank(number, begun=8, ago_s=1), host=host, open=None, calls=calls)


def test_a_rank_that_comes_last_again_and_again_is_late() -> None:
    verdict = only(marked(0, 0), marked(1, 0.02), marked(2, 0.21), marked(3, 0.01))
    assert (verdict.kind, verdict.rank) == (Kind.LATE, 2)
    assert "the last 4 of 4 calls that can be compared 200 ms after the others" in verdict.evidence
    assert "clocks" not in verdict.evidence
    assert (
        "by the clocks of different hosts" in only(*(marked(n, 0) for n in (0, 1, 3)), marked(2, 1, host="m")).evidence
    )


def test_clocks_that_differ_make_no_host_late() -> None:
    here, there = [marked(n, 0) for n in (0, 1, 2)], [marked(n, 0.5, host="m") for n in (3, 4, 5)]
    assert judged(*here, *there) == []
    assert only(*here, *there, marked(6, 0.8, host="m")).rank == 6


def test_two_late_calls_are_no_habit() -> None:
    assert judged(marked(0, 0, (7, 8)), marked(1, 0.3, (7, 8))) == []


OLD: dict[str, Any] = {"is_whole": False, "identity": Identity.ENVIRONMENT, "calls": (), "job": Job("slurm:7", 0, 4)}


def test_of_a_communicator_older_than_the_probes_no_numbers_are_compared() -> None:
    ranks = [rank(number, begun=number, **OLD) for number in (0, 1, 3)]
    verdict = only(*ranks, behind(2, **OLD))
    assert (verdict.kind, verdict.rank, verdict.number, verdict.job) == (Kind.MISSING, 2, None, "slurm:7")
    assert judged(*(replace(one, open=None) for one in ranks), behind(2, **OLD)) == []


def test_worst_comes_first() -> None:
    late = [replace(one, communicator="d") for one in (marked(0, 0), marked(1, 0), marked(2, 1), marked(3, 0))]
    kinds = [verdict.kind for verdict in judged(*late, *OTHERS, behind(2, ended=True))]
    assert kinds == [Kind.GONE, Kind.LATE]


def older(number: int, function: str | None = "AllReduce", **fields: Any) -> Rank:
    """A rank older than the probes, which a stack shows to be in a call since then."""
    since = NOW - 20 * SECOND
    call = None if function is None else OpenCall(Arguments(function), since, 100 + number, is_from_stack=True)
    return replace(
        rank(number, begun=0),
        **{
            **dict.fromkeys(("last_begin_ns", "last_return_ns", "address")),
            "identity": Identity.ENVIRONMENT,
            "is_whole": False,
            "calls": (),
            "open": call,
            **fields,
        },
    )


def test_a_rank_that_is_not_in_the_call_since_before_the_tool_is_missing() -> None:
    verdict = only(older(0), older(1), older(3), older(2, None, sleeps_in="futex_wait_queue"))
    assert (verdict.kind, verdict.rank, verdict.number, verdict.waiting) == (Kind.MISSING, 2, None, (0, 1, 3))
    assert verdict.evidence == (
        "it is not in AllReduce, which ranks 0, 1, 3 are in since before the tool came (by their stacks; on which"
        " communicator is not known); nor any other, and none since the tool came, its main thread sleeps in"
        " futex_wait_queue"
    )


def test_one_in_another_call_since_before_the_tool_is_missing() -> None:
    verdict = only(older(0), older(1), older(3), older(2, "CommInitRank"))
    assert (verdict.kind, verdict.rank) == (Kind.MISSING, 2)
    assert "it is in CommInitRank since before the tool came, by the stack of thread 102" in verdict.evidence


def test_of_one_whose_stacks_could_not_be_read_nothing_is_said() -> None:
    assert judged(older(0), older(1), older(3), older(2, None, is_open_known=False)) == []
    stopped = older(2, None, is_open_known=False, state="T")
    assert only(older(0), older(1), older(3), stopped).kind is Kind.STOPPED


def test_half_of_the_ranks_in_a_call_since_before_the_tool_may_be_a_communicator_of_their_own() -> None:
    assert judged(older(0), older(1), older(2, None), older(3, None)) == []


def test_all_in_a_call_since_before_the_tool_are_stopped() -> None:
    verdict = only(*(older(number) for number in range(4)))
    assert (verdict.kind, verdict.number) == (Kind.ALL_STOPPED, None)
    assert verdict.evidence == (
        "ranks 0, 1, 2, 3 are in AllReduce, and none has returned since the tool came (by their stacks; on which"
        " communicator is not known)"
    )


def test_one_that_was_not_seen_while_others_are_in_a_call_is_missing_if_all_hosts_are_known() -> None:
    verdict = only(older(0), older(1), older(3))
    assert (verdict.kind, verdict.rank, verdict.culprit) == (Kind.MISSING, 2, None)
    assert judged(older(0), older(1), older(3), covered=Covered.ONE_HOST) == []


def test_of_a_job_that_was_started_anew_the_earlier_ranks_are_forgotten() -> None:
    earlier = [rank(number, ended=True, pid=50 + number) for number in range(4)]
    assert list(without_replaced([*earlier, *OTHERS])) == [earlier[2], *OTHERS]
    assert list(without_replaced([replace(earlier[0], rank=None), *OTHERS])) == [
        replace(earlier[0], rank=None),
        *OTHERS,
    ]
    left = replace(rank(0), left="CommAbort", pid=50)
    assert list(without_replaced([left, rank(0)])) == [rank(0)]


def test_verdicts_are_named_as_documented_the_worst_first() -> None:
    words = ("gone", "stopped", "mismatch", "open_send", "missing", "all_stopped", "late")
    assert [kind.value for kind in Kind] == list(words)
    guide = (Path(__file__).parents[3] / "docs/nccl.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE)
    assert set(words) <= set(rows)


def test_names_of_what_tells_that_communicators_are_one_are_public() -> None:
    assert [identity.value for identity in Identity] == ["unique_id", "parent", "process", "environment"]


def test_of_two_ranks_one_may_be_late_and_of_one_none() -> None:
    verdict = only(marked(0, 0), marked(1, 0.21))
    assert (verdict.kind, verdict.rank, verdict.waiting) == (Kind.LATE, 1, (0,))
    assert judged(marked(1, 0.21)) == []
    assert judged(marked(0, 0), marked(1, 0.1)) == [], "as late as it may be"


@pytest.mark.parametrize(
    "fields, quiet_since",
    [
        ({}, 0),
        ({"last_begin_ns": 5, "last_return_ns": 3}, 5),
        ({"last_begin_ns": 3, "last_return_ns": 5}, 5),
        ({"last_begin_ns": 5, "open": OpenCall(REDUCE, 9, 1)}, 9),
        ({"last_begin_ns": 5, "open": OpenCall(REDUCE, 9, 1, is_other=True)}, 5),
        ({"last_begin_ns": 5, "peers": (PeerCount(1, 1, 1, None, 7), PeerCount(2, 1, 1, 6, None))}, 7),
        ({"last_begin_ns": 5, "peers": (PeerCount(1, 1, 1, 8, 7),)}, 8),
    ],
)
def test_a_rank_is_quiet_since_it_last_began_or_ended_something(fields: dict[str, Any], quiet_since: int) -> None:
    assert Rank("n1", 1, NOW, **fields).quiet_since_ns == quiet_since


@pytest.mark.parametrize(
    "function, is_other, waits",
    [
        ("AllReduce", False, True),
        ("AllReduce", True, False),
        ("Send", False, False),
        ("Recv", False, False),
        ("GroupEnd", False, False),
    ],
)
def test_a_rank_waits_in_calls_that_all_must_make(function: str, is_other: bool, waits: bool) -> None:
    call = OpenCall(Arguments(function), NOW, 1, is_other=is_other)
    assert Rank("n1", 1, NOW, open=call).waits is waits
    assert not Rank("n1", 1, NOW).waits


@pytest.mark.parametrize(
    "arguments, text",
    [
        (Arguments("GroupEnd"), "GroupEnd"),
        (Arguments("AllReduce", "int8", 0), "AllReduce(0 x int8)"),
        (Arguments("Broadcast", "int8", 5, 0), "Broadcast(5 x int8, root 0)"),
        (Arguments("Send", "int8", 5, 2), "Send(5 x int8, peer 2)"),
        (Arguments("Recv", "int8", 5, 2), "Recv(5 x int8, peer 2)"),
    ],
)
def test_arguments_are_shown_as_far_as_there_are_any(arguments: Arguments, text: str) -> None:
    assert str(arguments) == text


def test_functions_that_are_one_on_the_wire_are_comparable() -> None:
    for name in ("Bcast", "Broadcast", "BcastConfig", "BroadcastConfig"):
        assert Arguments(name, "int8", 5, 0).comparable() == Arguments("Broadcast", "int8", 5, 0)


@pytest.mark.parametrize("late, kinds", [(2, []), (3, [Kind.LATE]), (4, [Kind.LATE])])
def test_a_rank_that_was_late_three_times_in_a_row_is_late(late: int, kinds: list[Kind]) -> None:
    numbers = (4, 6, 7, 8)
    on_time, slow = marked(2, 0, numbers), marked(2, 0.21, numbers)
    mixed = replace(slow, calls=(*on_time.calls[: 4 - late], *slow.calls[4 - late :]))
    assert [verdict.kind for verdict in judged(marked(0, 0, numbers), marked(1, 0, numbers), mixed)] == kinds
