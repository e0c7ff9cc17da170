"""The call tables at their limits: what does not fit is unattributed, and every call still is in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.nccl.jobs import STANDIN_FUNCTIONS, calling, expected, standin
from xtrace.kernel import uprobe
from xtrace.model.nccl import CallTotals
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


def test_memory_is_told_by_the_kernel_and_small() -> None:
    with CallTables() as tables:
        assert 1 << 20 < tables.memory() < 32 << 20
