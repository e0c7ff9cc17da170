"""How much later ranks begin than others: each call compared once, in classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xtrace.model.nccl_lateness import LIMITS_NS, Comparison, behind, common, counts, median
from xtrace.model.nccl_ranks import Arguments, NumberedCall, Rank
from xtrace.sinks.metrics.nccl_ranks import LIMITS, RankMetrics

REDUCE = Arguments("AllReduce", "float32", 1000)
MS = 1_000_000


def rank(number: int, *begins_ms: float, **fields: Any) -> Rank:
    """A rank whose calls 1, 2, ... began then."""
    calls = tuple(NumberedCall(index, round(ms * MS), REDUCE) for index, ms in enumerate(begins_ms, 1))
    made = Rank("n1", 100 + number, 0, communicator="c", address=0x1000, rank=number, is_whole=True, calls=calls)
    return replace(made, **fields)


def classes(**by_limit: int) -> tuple[int, ...]:
    """`ms1=2`: two calls in the class up to 1 ms; `more` is the last one."""
    found = [0] * (len(LIMITS_NS) + 1)
    for name, calls in by_limit.items():
        found[-1 if name == "more" else LIMITS_NS.index(int(name[2:]) * MS)] = calls
    return tuple(found)


def test_a_rank_is_compared_with_the_median_of_the_others() -> None:
    ranks = [rank(0, 100), rank(1, 101), rank(2, 110), rank(3, 150)]
    assert [behind(one, ranks, 1) // MS for one in ranks] == [-10, -9, 9, 49]
    assert behind(ranks[0], ranks, 2) == 0
    assert behind(ranks[0], ranks[:1], 1) == 0


def test_limits_belong_to_their_class() -> None:
    assert tuple(counts(iter([-5, MS, MS + 1, 2 * MS, 10_000 * MS, 10_001 * MS]))) == classes(
        ms1=2, ms2=2, ms10000=1, more=1
    )


def test_calls_that_all_have_made_are_compared_once() -> None:
    comparison = Comparison()
    first = comparison.of([rank(0, 10, 20), rank(1, 10, 70)])
    assert [one.lateness for one in first] == [classes(ms1=2), classes(ms1=1, ms50=1)]
    same = comparison.of([rank(0, 10, 20), rank(1, 10, 70)])
    assert [one.lateness for one in same] == [(), ()]
    third = comparison.of([rank(0, 10, 20, 30, 40), rank(1, 10, 70, 35)])
    assert [one.lateness for one in third] == [classes(ms1=1), classes(ms5=1)]


def test_one_rank_alone_is_not_compared_nor_one_that_ended_nor_one_older_than_the_probes() -> None:
    for other in (rank(1, 9, communicator="d"), rank(1, 9, ended=True), rank(1, 9, is_whole=False)):
        assert [one.lateness for one in Comparison().of([rank(0, 10), other])] == [(), ()]
    assert Comparison().of([]) == ()


def test_a_communicator_that_comes_again_is_compared_from_its_first_call() -> None:
    comparison = Comparison()
    comparison.of([rank(0, 10), rank(1, 10)])
    comparison.of([])
    assert comparison.of([rank(0, 10), rank(1, 10)])[0].lateness == classes(ms1=1)


def test_numbers_in_common_are_those_of_all() -> None:
    assert common([rank(0, 1, 2, 3), rank(1, 1, 2)]) == [1, 2]


def test_median_is_the_middle_or_between() -> None:
    assert (median([3, 1, 2]), median([1, 2, 3, 10])) == (2, 2)


def late_calls(metrics: RankMetrics, *ranks: Rank) -> dict[tuple[str, str], float]:
    """Samples by rank and limit."""
    found = {}
    for sample in metrics.samples(ranks, ()):
        if "xtrace_nccl_rank_late_calls_total" in sample.values:
            labels = dict(sample.labels)
            found[labels["rank"], labels["le"]] = sample.values["xtrace_nccl_rank_late_calls_total"]
    return found


def test_the_metric_is_a_histogram_that_grows_while_the_rank_is_there() -> None:
    metrics = RankMetrics()
    late = rank(1, lateness=classes(ms1=2, ms50=1, more=1))
    assert late_calls(metrics, rank(0)) == {}
    found = late_calls(metrics, rank(0), late)
    assert [found["1", limit] for limit in ("0.001", "0.02", "0.05", "10", "+Inf")] == [2, 2, 3, 3, 4]
    assert len(found) == len(LIMITS)
    found = late_calls(metrics, replace(late, lateness=()), rank(0))
    assert found["1", "+Inf"] == 4
    assert late_calls(metrics, late)["1", "+Inf"] == 8
    assert late_calls(metrics, rank(0)) == {}
