"""The words of verdicts about ranks, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.model.test_nccl_verdicts import NOW, OTHERS, SECOND, behind, rank
from xtrace.model.nccl_evidence import is_alone, known, lacks, listed, numbers, seconds, unmatched, whereabouts
from xtrace.model.nccl_ranks import Arguments, OpenCall, PeerCount, Rank


@pytest.mark.parametrize(
    "ns, text",
    [
        (0, "0 ms"),
        (999_000_000, "999 ms"),
        (1_000_000_000, "1.0 s"),
        (12_340_000_000, "12.3 s"),
        (119_900_000_000, "119.9 s"),
        (120_000_000_000, "2 min"),
        (3_600_000_000_000, "60 min"),
    ],
)
def test_times_have_a_unit_of_their_size(ns: int, text: str) -> None:
    assert seconds(ns) == text


@pytest.mark.parametrize(
    "found, text",
    [
        ([5], "rank 5"),
        ([3, 1], "ranks 1, 3"),
        (range(8), "ranks 0, 1, 2, 3, 4, 5, 6, 7"),
        (range(9), "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 1 more"),
        (range(20), "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"),
    ],
)
def test_the_first_eight_ranks_are_named(found: list[int], text: str) -> None:
    assert numbers(found) == text
    assert listed([rank(number) for number in found]) == text


def test_ranks_without_numbers_are_counted() -> None:
    assert listed([rank(0), rank(1, rank=None)]) == "2 other ranks"
    assert (known(None), known(0)) == ("?", "0")


def test_what_a_rank_lacks_the_others_wait_in_or_have_made() -> None:
    assert lacks(behind(2), 12, OTHERS) == (
        "it has not made call 12, AllReduce(1000 x float32), which ranks 0, 1, 3 wait in"
    )
    gone_on = replace(OTHERS[0], begun=13)
    assert lacks(behind(2), 12, [gone_on, *OTHERS[1:]]).endswith(" which ranks 0, 1, 3 have made")
    returned = replace(OTHERS[0], open=None, returned=12)
    assert lacks(behind(2), 12, [returned, *OTHERS[1:]]).endswith(" which ranks 0, 1, 3 have made")
    assert lacks(behind(2), 11, OTHERS) == "ranks 0, 1, 3 have made call 11"
    assert lacks(rank(2), 12, OTHERS) == "ranks 0, 1, 3 wait in call 12, AllReduce(1000 x float32)"
    assert lacks(behind(2), 0, OTHERS) == "it has not made the call which ranks 0, 1, 3 have made"


def test_whose_process_has_another_rank_is_not_alone() -> None:
    one = rank(0)
    assert is_alone(one, [one, rank(1), replace(rank(1), host=one.host), replace(rank(1), pid=one.pid)])
    assert not is_alone(one, [one, replace(rank(1), host=one.host, pid=one.pid)])


CALL = OpenCall(Arguments("AllGather", "int8", 5), NOW - 3 * SECOND, 77, 3)


@pytest.mark.parametrize(
    "there, text",
    [
        (behind(2, left="CommAbort"), "it has left the communicator (CommAbort)"),
        (behind(2), "it is in no NCCL call, the last one was 21.0 s ago"),
        (
            behind(2, sleeps_in="pipe_read"),
            "it is in no NCCL call, the last one was 21.0 s ago, its main thread sleeps in pipe_read",
        ),
        (behind(2, last_begin_ns=None, last_return_ns=None), "it has made no call"),
        (
            behind(2, last_begin_ns=None, last_return_ns=None, is_whole=False, sleeps_in="pipe_read"),
            "nor any other, and none since the tool came, its main thread sleeps in pipe_read",
        ),
        (rank(2, open=CALL), "it is in AllGather(5 x int8) since 3.0 s (thread 77)"),
        (
            rank(2, open=CALL._replace(is_from_stack=True)),
            "it is in AllGather(5 x int8) since before the tool came, by the stack of thread 77",
        ),
        (
            rank(2, open=CALL._replace(is_other=True)),
            "it is in AllGather(5 x int8) on another communicator since 3.0 s (thread 77)",
        ),
        (
            rank(2, open=CALL._replace(is_other=True, arguments=Arguments("GroupEnd"))),
            "it is in GroupEnd since 3.0 s (thread 77)",
        ),
    ],
)
def test_where_a_rank_is_instead(there: Rank, text: str) -> None:
    assert whereabouts(there, [*OTHERS, there]) == text


def test_a_thread_of_a_process_with_several_ranks_may_be_another_ones() -> None:
    there = rank(2, open=CALL._replace(is_other=True))
    beside = replace(rank(1), host=there.host, pid=there.pid)
    assert whereabouts(there, [beside, there]) == (
        "a thread of its process, perhaps another rank's, is in AllGather(5 x int8) on another communicator since"
        " 3.0 s (thread 77)"
    )


def in_call(function: str, root: int | None, *peers: PeerCount, number: int = 2, **fields: object) -> Rank:
    call = OpenCall(Arguments(function, "int8", 5, root), NOW - 3 * SECOND, 77)
    return replace(rank(number, open=call), peers=peers, **fields)  # type: ignore[arg-type]


def counted(peer: int, sends: int, receives: int) -> PeerCount:
    return PeerCount(peer, sends, receives, NOW, NOW)


def test_a_send_waits_for_a_rank_with_fewer_receives() -> None:
    other = replace(rank(1), peers=(counted(0, 90, 91), counted(2, 5, 6)))
    sender = in_call("Send", 1, counted(1, 7, 5))
    assert unmatched(sender, [other, sender]) == (
        1,
        "it is in Send(5 x int8, peer 1) since 3.0 s (thread 77),"
        " with 7 sends to rank 1, which has made 6 receives from it",
    )
    receiver = in_call("Recv", 1, counted(1, 6, 6))
    assert unmatched(receiver, [other, receiver]) == (
        1,
        "it is in Recv(5 x int8, peer 1) since 3.0 s (thread 77),"
        " with 6 receives from rank 1, which has made 5 sends to it",
    )
    even = in_call("Send", 1, counted(1, 6, 5))
    assert unmatched(even, [other, even]) is None
    new = in_call("GroupEnd", None, counted(3, 1, 0))
    found = unmatched(new, [replace(rank(3), peers=()), new])
    assert found is not None and found[0] == 3 and "which has made 0 receives from it" in found[1]


@pytest.mark.parametrize(
    "sender, other",
    [
        (in_call("Send", 3, counted(1, 7, 5)), rank(1)),  # it is in a send to another one
        (in_call("AllReduce", 1, counted(1, 7, 5)), rank(1)),
        (in_call("Send", 1, counted(1, 7, 5), are_peers_known=False), rank(1)),
        (in_call("Send", 1, counted(1, 7, 5)), rank(1, are_peers_known=False)),
        (in_call("Send", 1, counted(1, 7, 5), rank=None), rank(1)),
        (in_call("Send", 1, counted(1, 7, 5)), rank(0)),  # that one is not seen
        (behind(2), rank(1)),
    ],
)
def test_nothing_is_said_of_sends_where_not_all_is_known(sender: Rank, other: Rank) -> None:
    assert unmatched(sender, [other, sender]) is None
