"""Metrics of the ranks of communicators: what is known of each, and what is not said of those of which it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.make_samples import flat
from xtrace.model.nccl_ranks import Arguments, NumberedCall, OpenCall, PeerCount, Rank
from xtrace.model.nccl_verdicts import Kind, Verdict
from xtrace.options.labels import RESERVED_LABELS
from xtrace.sinks.metrics import nccl_ranks
from xtrace.sinks.metrics.nccl_ranks import COMPARED_EVERY, DESCRIBED, RankMetrics
from xtrace.sinks.metrics.sample import Labels

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
REDUCE = Arguments("AllReduce", "float32", 1000)
CALLS = tuple(NumberedCall(number, NOW - (20 - number) * SECOND, REDUCE) for number in (3, 4, 8, 9))
NAMED: Labels = (("communicator", "c"), ("rank", "2"), ("pid", "102"), ("container", "box"))
CALL, OPEN = "xtrace_nccl_rank_call", "xtrace_nccl_rank_open_seconds"


def rank(**fields: Any) -> Rank:
    """The third rank of four, in its ninth call since 2 s."""
    made = Rank(
        "n1",
        102,
        NOW,
        container="box",
        communicator="c",
        nranks=4,
        rank=2,
        begun=9,
        returned=8,
        last_begin_ns=NOW - 2 * SECOND,
        last_return_ns=NOW - 3 * SECOND,
        open=OpenCall(REDUCE, NOW - 2 * SECOND, 102, 9),
        state="S",
        calls=CALLS,
    )
    return replace(made, **fields)


def values(*ranks: Rank, metrics: RankMetrics | None = None, verdicts: tuple[Verdict, ...] = ()) -> dict[str, float]:
    """`name{label="value"}` of each sample, without the labels of the rank."""
    found = flat((metrics or RankMetrics()).samples(ranks, verdicts))
    assert {value.name for value in found} <= set(DESCRIBED)
    assert {name for value in found for name, _ in value.labels} <= RESERVED_LABELS | {"function"}
    return {shown(value.name, value.labels): value.value for value in found}


def shown(name: str, labels: Labels) -> str:
    more = ",".join(f'{label}="{text}"' for label, text in labels if (label, text) not in NAMED)
    return f"{name}{{{more}}}" if more else name


def test_rank_in_a_call_is_told_with_its_size_number_and_times() -> None:
    found = values(rank())
    arguments = found.pop("xtrace_nccl_rank_arguments")
    assert found == {
        CALL: 9,
        "xtrace_nccl_rank_size": 4,
        "xtrace_nccl_rank_number": 2,
        OPEN: 2.0,
        "xtrace_nccl_rank_quiet_seconds": 2.0,
        "xtrace_nccl_rank_stopped": 0,
        "xtrace_nccl_rank_ended": 0,
        "xtrace_nccl_rank_compared_call": 8,
        "xtrace_nccl_rank_compared_seconds": (NOW - 12 * SECOND) / 1e9,
        'xtrace_nccl_rank_open_call{function="AllReduce"}': 1,
    }
    assert 0 < arguments < 1 << 48
    assert COMPARED_EVERY == 4


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"open": None}, {OPEN: 0}),
        ({"open": None, "is_open_known": False}, {OPEN: None}),
        ({"open": None, "is_open_known": False, "ended": True}, {OPEN: 0, "xtrace_nccl_rank_ended": 1}),
        ({"ended": True}, {OPEN: 0, "xtrace_nccl_rank_ended": 1}),
        ({"at_ns": NOW - 9 * SECOND}, {OPEN: 0, "xtrace_nccl_rank_quiet_seconds": 0}),
        ({"state": "T"}, {"xtrace_nccl_rank_stopped": 1}),
        ({"state": "t"}, {"xtrace_nccl_rank_stopped": 1}),
        ({"state": "D"}, {"xtrace_nccl_rank_stopped": 1}),
        ({"state": None}, {"xtrace_nccl_rank_stopped": 0}),
        ({"nranks": None}, {"xtrace_nccl_rank_size": None}),
        ({"is_joined": False}, {CALL: 0}),
        ({"begun": 10}, {CALL: 10, "xtrace_nccl_rank_arguments": None}),
        (
            {"calls": CALLS[:1]},
            {"xtrace_nccl_rank_compared_call": None, "xtrace_nccl_rank_compared_seconds": None},
        ),
        (
            {"open": None, "last_begin_ns": None, "last_return_ns": None},
            {"xtrace_nccl_rank_quiet_seconds": None},
        ),
        (
            {"peers": (PeerCount(1, 5, 5, NOW - SECOND, None),)},
            {"xtrace_nccl_rank_quiet_seconds": 1.0},
        ),
    ],
)
def test_what_is_not_known_has_no_sample(fields: dict[str, Any], expected: Mapping[str, float | None]) -> None:
    found = values(rank(**fields))
    assert {name: found.get(name) for name in expected} == expected


def test_arguments_are_equal_where_calls_are() -> None:
    def hashed(arguments: Arguments) -> float:
        return values(rank(calls=(NumberedCall(9, NOW, arguments),)))["xtrace_nccl_rank_arguments"]

    usual = hashed(REDUCE)
    assert hashed(REDUCE._replace(function="AllReduceConfig")) == usual
    others = (REDUCE._replace(elements=1001), REDUCE._replace(datatype="int8"), REDUCE._replace(root=1))
    assert len({usual, *map(hashed, others), hashed(REDUCE._replace(function="Reduce"))}) == 5


def test_rank_without_a_number_or_a_communicator_has_no_series_and_one_told_twice_one() -> None:
    assert values(rank(rank=None), rank(communicator=None)) == {}
    assert values(rank(), rank(open=None, begun=3))[CALL] == 9


def test_ranks_longest_in_a_call_have_series_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nccl_ranks, "MOST_RANKS", 2)
    waits = [rank(rank=number, open=OpenCall(REDUCE, NOW - number * SECOND, 1, 9)) for number in range(4)]
    idle = rank(rank=9, open=None)
    found = flat(RankMetrics().samples([idle, *waits], ()))
    assert [dict(value.labels)["rank"] for value in found if value.name == CALL] == ["3", "2"]


def test_function_that_was_left_and_verdict_that_is_past_are_0_once() -> None:
    metrics = RankMetrics()
    wrong = Verdict(Kind.MISSING, "c", None, NOW, "", rank=None, culprit=None)
    named = Verdict(Kind.GONE, "c", None, NOW, "", rank=2, culprit=rank())
    first = values(rank(), metrics=metrics, verdicts=(wrong, named))
    other = rank(open=OpenCall(Arguments("AllGather"), NOW, 102, 9))
    second = values(other, metrics=metrics, verdicts=(named,))
    third = values(rank(open=None), metrics=metrics)
    of_all = 'xtrace_nccl_verdicts{rank="",container="",verdict="missing"}'
    of_one = 'xtrace_nccl_verdicts{verdict="gone"}'
    reduce, gather = (f'xtrace_nccl_rank_open_call{{function="{name}"}}' for name in ("AllReduce", "AllGather"))
    told = (reduce, gather, of_all, of_one)
    assert [first.get(name) for name in told] == [1, None, 1, 1]
    assert [second.get(name) for name in told] == [0, 1, 0, 1]
    assert [third.get(name) for name in told] == [None, 0, None, 0]
    assert not set(told) & set(values(rank(open=None), metrics=metrics))
