"""The order of a tick's system calls, on which exactness rests and which no load can be relied on to prove."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.kernel.traffic import segment
from tests.support.frames import ACK
from xtrace.kernel import features, syscall
from xtrace.kernel.bpf import SharedMemory
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.syscall import ffi
from xtrace.model.flow import ENTRY
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.stores import MappedFlows
from xtrace.monitors.flows.tables import FlowTables


class Recorder:
    """The compiled shim, with a note of each call."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._lib, name)
        if not name.startswith("xt_"):
            return function  # type: ignore[no-any-return]

        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            return function(*arguments)

        return call


def steps(recorder: Recorder, maps: dict[int, str]) -> list[str]:
    """The calls as `function(map)`, as far as they are about the shared maps or a program's run."""
    named = []
    for name, arguments in recorder.calls:
        first = arguments[0] if isinstance(arguments[0], int) else None
        if name in ("xt_store_release", "xt_prog_test_run"):
            named.append(name)
        elif first in maps:
            named.append(f"{name}({maps[first]})")
    return named


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Names of the maps that are created, by descriptor."""
    from xtrace.kernel.bpf import Map

    found: dict[int, str] = {}
    create = Map.create.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Map], spec: MapSpec, btf: Any = None) -> Map:
        made: Map = create(cls, spec, btf)
        found[made.fileno()] = spec.name
        return made

    monkeypatch.setattr(Map, "create", classmethod(noted))
    return found


STORES = pytest.mark.parametrize("mapped", [True, False], ids=["shared memory", "hash maps"])


def tables_of(mapped: bool) -> FlowTables:
    having = features.probe()
    if mapped and not having.cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    return FlowTables(Plan.make(64), having._replace(cmpxchg=mapped))


@STORES
def test_buffer_is_read_only_after_the_flip_and_a_grace_period(
    mapped: bool, descriptors: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(syscall.lib)
    monkeypatch.setattr(syscall, "lib", recorder)
    with closing(tables_of(mapped)) as tables, tables.load("xdp_ingress") as program:
        program.test_run(bytes(60))
        recorder.calls.clear()
        assert len(tables.collect(tables.flip()).flows) == 1
        shared = ["xt_map_mmap(flows)", "xt_map_mmap(flow_index)"]
        reading = shared if mapped else ["xt_map_lookup_and_delete_batch(flows_a)"]
        taken = steps(recorder, descriptors)
        before = 2 + len(reading)
        assert taken[:before] == ["xt_store_release", "xt_map_update(grace)", *reading]
        # in one batch, or on kernels without batches of per-CPU arrays one by one
        counters = {"xt_map_lookup_batch(counters)", "xt_map_lookup(counters)", "xt_map_update(counters)"}
        assert set(taken[before:]) <= counters


def used_bytes(tables: FlowTables, buffer: int) -> int:
    """Bytes of a buffer's entries, index and claims that are not 0."""
    store, plan = tables._store, tables.plan
    assert isinstance(store, MappedFlows)
    claims = bytes(ffi.buffer(store._claims + buffer, ffi.sizeof("struct claimed")))
    used = len(claims) - claims.count(0)
    sizes = (store._flows, plan.table_entries * ENTRY.size), (store._index, plan.index_bytes)
    for kept, size in sizes:
        with SharedMemory(kept, 2 * size) as memory:
            found = bytes(memory.view()[buffer * size : (buffer + 1) * size])
            used += size - found.count(0)
    return used


def test_buffer_in_shared_memory_is_cleared_before_it_is_active_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store_release = syscall.lib.xt_store_release
    used = []
    with closing(tables_of(mapped=True)) as tables, tables.load("xdp_ingress") as program:

        def looking(word: Any, buffer: int) -> None:
            used.append(used_bytes(tables, buffer))
            store_release(word, buffer)

        recorder = Recorder(syscall.lib)
        monkeypatch.setattr(syscall, "lib", recorder)
        monkeypatch.setattr(recorder, "xt_store_release", looking, raising=False)
        for number in range(4):
            program.test_run(segment(ACK), repeat=3)
            assert used_bytes(tables, number % 2) > 0
            assert len(tables.collect(tables.flip()).flows) == 1
        assert used == [0] * 4


@STORES
def test_last_interval_is_read_only_after_a_grace_period(
    mapped: bool, descriptors: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(syscall.lib)
    monkeypatch.setattr(syscall, "lib", recorder)
    with closing(tables_of(mapped)) as tables, tables.load("xdp_ingress") as program:
        program.test_run(bytes(60))
        recorder.calls.clear()
        assert len(tables.collect(tables.flip(last=True)).flows) == 1
        taken = steps(recorder, descriptors)
        batches = ["xt_map_lookup_and_delete_batch(flows_a)", "xt_map_lookup_and_delete_batch(flows_b)"]
        reading = ["xt_map_mmap(flows)", "xt_map_mmap(flow_index)"] if mapped else batches
        assert taken[:3] == ["xt_map_update(grace)", *reading]
