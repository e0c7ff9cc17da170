"""The order of a tick's system calls, on which exactness rests and which no load can be relied on to prove."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from xtrace.kernel import features, syscall
from xtrace.kernel.elf import MapSpec
from xtrace.monitors.flows.plan import Plan
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


def test_buffer_is_read_only_after_the_flip_and_a_grace_period(
    descriptors: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(syscall.lib)
    monkeypatch.setattr(syscall, "lib", recorder)
    with closing(FlowTables(Plan.make(64), features.probe())) as tables:
        recorder.calls.clear()
        tables.collect(tables.flip())
        flip_and_read = [
            "xt_store_release",
            "xt_map_update(grace)",
            "xt_prog_test_run",
            "xt_map_lookup_and_delete_batch(flows_a)",
        ]
        taken = steps(recorder, descriptors)
        assert taken[:4] == flip_and_read
        # in one batch, or on kernels without batches of per-CPU arrays one by one
        assert set(taken[4:]) in ({"xt_map_lookup_batch(counters)"}, {"xt_map_lookup(counters)"})


def test_last_interval_is_read_only_after_a_grace_period(
    descriptors: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(syscall.lib)
    monkeypatch.setattr(syscall, "lib", recorder)
    with closing(FlowTables(Plan.make(64), features.probe())) as tables:
        recorder.calls.clear()
        tables.collect(tables.flip(last=True))
        assert steps(recorder, descriptors)[:1] == ["xt_map_update(grace)"]
