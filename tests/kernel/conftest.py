"""The packet program in all its variants, each loaded once for the tests of a module."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest

from tests.kernel.counter import FULL, MAX_FLOWS, TC, XDP, Counter, counting, present
from xtrace.model.words import Direction
from xtrace.monitors.flows.plan import Plan

VARIANTS: Mapping[str, Mapping[str, bool | int]] = {
    "as the tool runs": {},
    "one recent flow": {"recent_flows": 1},
    "two recent flows": {"recent_flows": 2},
    "no recent flows": {"recent_cpus": 0},
    "general parser": {"plain": False},
    "PREEMPT_RT": {"realtime": True},
    "hash maps": {"cmpxchg": False},
    "hash maps, one recent flow": {"cmpxchg": False, "recent_flows": 1},
    "hash maps, two recent flows": {"cmpxchg": False, "recent_flows": 2},
    "hash maps, no recent flows": {"cmpxchg": False, "recent_cpus": 0},
    "hash maps, PREEMPT_RT": {"cmpxchg": False, "realtime": True},
    "no batches of per-CPU arrays": {"percpu_batch": False},
    "no frags": {"frags": False},
    "no type information": {"btf": False},
}
"""What differs from a Plan or from what this kernel can do."""

CACHES = (
    "as the tool runs",
    "two recent flows",
    "no recent flows",
    "PREEMPT_RT",
    "hash maps",
    "hash maps, two recent flows",
    "hash maps, no recent flows",
    "hash maps, PREEMPT_RT",
)
"""Where full tables are tried."""

SIZES = frozenset({"recent_flows", "recent_cpus"})

HOOKS: Mapping[str, tuple[str, Direction]] = {
    "XDP": (XDP, Direction.INGRESS),
    "tc ingress": (TC, Direction.INGRESS),
    "tc egress": (TC, Direction.EGRESS),
}
"""The programs, and for which direction they are loaded."""


def build(plan: Plan, changes: Mapping[str, bool | int]) -> Iterator[Counter]:
    """A Counter with one of VARIANTS."""
    plan = plan._replace(**{name: int(value) for name, value in changes.items() if name in SIZES})
    of_features = {name: bool(value) for name, value in changes.items() if name not in SIZES | {"plain"}}
    if of_features.get("cmpxchg", True) and not present().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    with counting(plan, present()._replace(**of_features), plain=bool(changes.get("plain", True))) as counter:
        yield counter


@pytest.fixture(scope="module", params=list(VARIANTS.values()), ids=list(VARIANTS))
def any_variant(request: pytest.FixtureRequest) -> Iterator[Counter]:
    yield from build(Plan.make(MAX_FLOWS), request.param)


@pytest.fixture
def variant(any_variant: Counter) -> Counter:
    any_variant.empty()
    return any_variant


@pytest.fixture(scope="package")
def shared_counter() -> Iterator[Counter]:
    with counting() as counter:
        yield counter


@pytest.fixture
def counter(shared_counter: Counter) -> Counter:
    """The program as the tool runs it on this kernel, with nothing counted yet."""
    shared_counter.empty()
    return shared_counter


@pytest.fixture(scope="module", params=list(HOOKS.values()), ids=list(HOOKS))
def any_hook(request: pytest.FixtureRequest) -> Iterator[Counter]:
    program, direction = request.param
    with counting(program=program, direction=direction) as counter:
        yield counter


@pytest.fixture
def hook(any_hook: Counter) -> Counter:
    """The program of each hook as the tool runs it on this kernel, with nothing counted yet."""
    any_hook.empty()
    return any_hook


@pytest.fixture(scope="module", params=[VARIANTS[name] for name in CACHES], ids=CACHES)
def any_small(request: pytest.FixtureRequest) -> Iterator[Counter]:
    yield from build(Plan.make(FULL), request.param)


@pytest.fixture
def small(any_small: Counter) -> Counter:
    """Room for FULL flows."""
    any_small.empty()
    return any_small


@pytest.fixture
def cpus() -> Iterator[list[int]]:
    """The CPUs this process may run on, and may again afterwards."""
    allowed = os.sched_getaffinity(0)
    yield sorted(allowed)
    os.sched_setaffinity(0, allowed)
