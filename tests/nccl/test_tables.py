"""The call tables at their limits: what does not fit is unattributed, and every call still is in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.nccl.jobs import STANDIN_FUNCTIONS, calling, expected, job, standin
from xtrace.kernel import uprobe
from xtrace.kernel.bpf import Fd
from xtrace.model.nccl import CallTotals
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.libraries import find_functions

CALLS = 11_000


@contextmanager
def probed(max_keys: int) -> Iterator[CallTables]:
    """Tables that the stand-in's calls go to; every program and descriptor is closed after them."""
    uprobe.has_multi.cache_clear()
    try:
        with CallTables(max_keys) as tables, tables.attach(str(standin()), find_functions(str(standin())), 1):
            yield tables
    finally:
        uprobe.has_multi.cache_clear()


@pytest.mark.parametrize("threads", [1, 4])
def test_a_full_table_counts_calls_as_unattributed(
    threads: int, way: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in way.items():
        monkeypatch.setenv(name, value)
    with probed(max_keys=16) as tables, calling(standin(), CALLS, threads) as caller:
        caller.begin()
        caller.wait()
        taken = tables.collect(tables.flip())
    wanted = expected(STANDIN_FUNCTIONS, CALLS, threads)
    totals = taken.totals
    assert totals.unattributed > 0
    assert len(taken.calls) == 16
    assert totals.calls == CALLS * threads
    assert sum(counters.calls for counters in taken.calls.values()) + totals.unattributed == totals.calls
    elements = sum(counters.elements for counters in taken.calls.values())
    assert elements + totals.unattributed_elements == sum(size for _, size in wanted.values())
    returned = sum(counters.returned for counters in taken.calls.values())
    assert returned + totals.unattributed_returns == totals.calls


def test_an_interval_without_calls_is_empty() -> None:
    with probed(max_keys=16) as tables:
        for _ in range(3):
            taken = tables.collect(tables.flip())
            assert (taken.calls, taken.totals) == ({}, CallTotals())


def test_a_second_flip_finds_what_came_after_the_first() -> None:
    with probed(max_keys=1024) as tables, calling(standin(), CALLS) as caller:
        caller.begin()
        caller.wait()
        first = tables.collect(tables.flip())
        assert first.totals.calls == CALLS
        assert tables.collect(tables.flip()).totals == CallTotals()


def test_what_nobody_has_read_waits_for_the_next_turn_of_its_buffer() -> None:
    with probed(max_keys=1024) as tables, job() as process:
        process.do("CommInitRank", "world", 2, 0)
        process.do("AllReduce", "world", 100, 7)
        tables.flip()  # nobody reads what it left
        for _ in range(2):
            process.do("AllReduce", "world", 10, 7)
        second = tables.collect(tables.flip())
        process.do("AllReduce", "world", 1, 7)
        both = tables.collect(tables.flip())
    reduced = [
        counters
        for taken in (second, both)
        for key, counters in taken.calls.items()
        if FUNCTIONS[key.function] == "AllReduce"
    ]
    counted = [(counters.calls, counters.elements, counters.returned, sum(counters.latency)) for counters in reduced]
    assert counted == [(2, 20, 2, 2), (2, 101, 2, 2)]


def test_returns_are_probed_before_any_call_can_be_counted(
    way: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in way.items():
        monkeypatch.setenv(name, value)
    ends: list[bool] = []

    def noted(attach: Callable[..., Fd]) -> Callable[..., Fd]:
        def attach_and_note(*arguments: Any, at_return: bool) -> Fd:
            ends.append(at_return)
            return attach(*arguments, at_return=at_return)

        return attach_and_note

    for name in ("attach_multi", "attach_event"):
        monkeypatch.setattr(uprobe, name, noted(getattr(uprobe, name)))
    with probed(max_keys=16):
        assert set(ends) == {True, False}
        assert ends == sorted(ends, reverse=True)


def test_memory_is_told_by_the_kernel_and_small() -> None:
    with CallTables() as tables:
        assert 1 << 20 < tables.memory() < 32 << 20
