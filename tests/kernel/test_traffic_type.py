"""Kernel and user space call the same flow by the same traffic type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cases import GROUPS
from tests.kernel.counter import Counter, counting, present
from tests.kernel.reference import NO_FLOW
from tests.support.build import compile_bpf, loaded
from tests.support.frames import ARP, IPV4, IPV6, LLC, LLDP, ROCE_V1, ethernet
from xtrace.kernel.bpf import Program
from xtrace.model.flow import KEY, PacketCount
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.monitors.flows.plan import Plan


@pytest.fixture(scope="module")
def type_of_key() -> Iterator[Program]:
    with loaded(compile_bpf(Path(__file__).parent / "traffic_type.c"), "type_of_key") as program:
        yield program


@pytest.fixture(scope="module")
def any_full() -> Iterator[Counter]:
    with counting(Plan.make(1), present()._replace(realtime=True)) as counter:
        yield counter


@pytest.fixture
def full(any_full: Counter) -> Counter:
    """A table with room for FILLER's flow alone, and no front cache before it."""
    any_full.empty()
    return any_full


FILLER = ethernet(0x88B6)


@pytest.mark.parametrize("ethertype", [0, LLC, IPV4, ARP, IPV6, ROCE_V1, LLDP, 0xFFFF], ids=hex)
def test_both_sides_agree_on_every_protocol_and_flag(type_of_key: Program, ethertype: int) -> None:
    seen = set()
    for protocol in range(256):
        for flags in range(64):
            key = NO_FLOW._replace(ethertype=ethertype, protocol=protocol, flags=flags)
            name = TRAFFIC_TYPES[type_of_key.test_run(KEY.pack(*key)).verdict]
            assert name == key.traffic_type, key
            seen.add(name)
    assert len(seen) >= 2


@pytest.mark.parametrize("group", GROUPS)
def test_frame_without_room_is_unattributed_under_the_type_of_its_flow(full: Counter, group: str) -> None:
    expected: dict[str, PacketCount] = {}
    for case in GROUPS[group]:
        if full.takes(case.frame):
            before = expected.get(case.traffic_type, PacketCount(0, 0))
            expected[case.traffic_type] = before + PacketCount(1, len(case.frame))
    interval = full.measure([FILLER, *(case.frame for case in GROUPS[group] if full.takes(case.frame))])
    assert interval.sums == {NO_FLOW._replace(ethertype=0x88B6): (1, len(FILLER), 0)}
    assert interval.unattributed == expected
