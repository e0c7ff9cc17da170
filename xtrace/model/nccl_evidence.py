"""The words of verdicts about NCCL's ranks: what is known of a rank that others wait for. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from xtrace.model.nccl_ranks import GROUP_END, RECEIVES, SENDS, Rank

MOST_LISTED = 8
"""Ranks that a sentence names."""


def lacks(culprit: Rank, number: int, waiting: Sequence[Rank]) -> str:
    """`it has not made call 12, AllReduce(1000 x float32), which ranks 0, 1, 3 wait in`; `number` is 0 if not known."""
    earlier = next((rank.open for rank in waiting if rank.open and rank.open.is_from_stack), None)
    if earlier is not None:
        what = f"{earlier.arguments.function}, which {listed(waiting)} are in since before the tool came"
        return f"it is not in {what} (by their stacks; on which communicator is not known)"
    made = [call for rank in waiting if (call := rank.call(number))]
    what = f"call {number}" if number else "the call"
    if made:
        what += f", {made[0].arguments},"
    do = "wait in" if all(rank.waits and rank.made == number for rank in waiting) else "have made"
    if culprit.made >= number and number:
        return f"{listed(waiting)} {do} {what.rstrip(',')}"
    return f"it has not made {what} which {listed(waiting)} {do}"


def is_alone(rank: Rank, members: Sequence[Rank]) -> bool:
    """Whether its process has no other rank: else what its threads do may be the other's."""
    return all(other is rank or (other.host, other.pid) != (rank.host, rank.pid) for other in members)


def whereabouts(rank: Rank, members: Sequence[Rank]) -> str:
    """Where a rank is instead, when it was seen last: `it is in GroupEnd since 20.0 s (thread 102)`."""
    call = rank.open
    if rank.left is not None:
        return f"it has left the communicator ({rank.left})"
    if call is None:
        asleep = f", its main thread sleeps in {rank.sleeps_in}" if rank.sleeps_in else ""
        if not rank.quiet_since_ns:
            none = "it has made no call" if rank.is_whole else "nor any other, and none since the tool came"
            return f"{none}{asleep}"
        return f"it is in no NCCL call, the last one was {seconds(rank.at_ns - rank.quiet_since_ns)} ago{asleep}"
    if call.is_from_stack:
        return f"it is in {call.arguments} since before the tool came, by the stack of thread {call.thread}"
    where = " on another communicator" if call.is_other and call.arguments.elements is not None else ""
    what = f"in {call.arguments}{where} since {seconds(rank.at_ns - call.since_ns)}"
    if call.is_other and not is_alone(rank, members):
        return f"a thread of its process, perhaps another rank's, is {what} (thread {call.thread})"
    return f"it is {what} (thread {call.thread})"


def unmatched(culprit: Rank, members: Sequence[Rank]) -> tuple[int, str] | None:
    """The rank that a send or receive waits for, and the evidence, if that one has made fewer than it needs."""
    call = culprit.open
    if call is None or call.arguments.function not in (SENDS, RECEIVES, GROUP_END):
        return None
    for peer in culprit.peers:
        other = next((rank for rank in members if rank.rank == peer.peer), None)
        if other is None or not (culprit.are_peers_known and other.are_peers_known) or culprit.rank is None:
            continue
        if call.arguments.function != GROUP_END and call.arguments.root != peer.peer:
            continue
        back = next((one for one in other.peers if one.peer == culprit.rank), None)
        received, sent = (back.receives, back.sends) if back else (0, 0)
        if peer.sends > received:
            text = f"{peer.sends} sends to rank {peer.peer}, which has made {received} receives from it"
            return peer.peer, f"{whereabouts(culprit, members)}, with {text}"
        if peer.receives > sent:
            text = f"{peer.receives} receives from rank {peer.peer}, which has made {sent} sends to it"
            return peer.peer, f"{whereabouts(culprit, members)}, with {text}"
    return None


def listed(ranks: Sequence[Rank]) -> str:
    """`ranks 0, 1, 3`, `7 other ranks`"""
    found = [rank.rank for rank in ranks if rank.rank is not None]
    if len(found) != len(ranks):
        return f"{len(ranks)} other ranks"
    return numbers(found)


def numbers(found: Sequence[int]) -> str:
    """`rank 5`, `ranks 0, 1, 2, 3, 4, 5, 6, 7 and 12 more`"""
    some = ", ".join(map(str, sorted(found)[:MOST_LISTED]))
    more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    return f"rank{'s' if len(found) > 1 else ''} {some}{more}"


def known(number: int | None) -> str:
    """The number, or `?`."""
    return "?" if number is None else str(number)


def seconds(ns: int) -> str:
    """`200 ms`, `12.3 s`, `5 min`"""
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.0f} ms"
    return f"{ns / 1e9:.1f} s" if ns < 120_000_000_000 else f"{ns / 60e9:.0f} min"
