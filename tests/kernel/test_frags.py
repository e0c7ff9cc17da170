"""Frames that are longer than the linear data an XDP program reads directly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.cases import flow4, over_ipv4
from tests.kernel.counter import Counter, counting, present
from tests.kernel.reference import NO_FLOW
from tests.support.frames import ACK, TCP, tcp
from xtrace.errors import KernelError
from xtrace.flow import PacketCount
from xtrace.monitors.tables import Plan

WEB = tcp(40000, 80, ACK)
FLOW = flow4(TCP, 40000, 80)


@pytest.fixture(scope="module")
def frags_counter() -> Iterator[Counter]:
    if not present().frags:
        pytest.skip("this kernel gives XDP programs no frames longer than a page (Linux 5.18)")
    with counting(Plan.make(100)) as counter:
        yield counter


@pytest.mark.parametrize("length", [3521, 4096, 4097, 8191, 9014, 20_000, 65_549])
def test_frame_longer_than_a_page_counts_with_its_whole_length(frags_counter: Counter, length: int) -> None:
    frame = over_ipv4(TCP, WEB + bytes(length - 54))
    interval = frags_counter.measure([frame, frame])
    assert interval.sums == {FLOW: (2, 2 * length, ACK)}
    assert interval.total == PacketCount(2, 2 * length)


def test_short_and_long_frames_of_a_flow_add_up(frags_counter: Counter) -> None:
    lengths = [54, 1514, 4097, 60, 65_549]
    interval = frags_counter.measure(over_ipv4(TCP, WEB + bytes(length - 54)) for length in lengths)
    assert interval.sums == {FLOW: (len(lengths), sum(lengths), ACK)}


@pytest.mark.parametrize("linear", [14, 33, 34, 37, 38, 47, 48, 60])
def test_frame_with_few_linear_bytes_counts_with_its_whole_length(frags_counter: Counter, linear: int) -> None:
    """Whatever of the headers is not linear, the packet is counted, and no field is made up."""
    frame = over_ipv4(TCP, WEB + bytes(6000))
    try:
        frags_counter.count(frame, linear=linear)
    except KernelError:
        pytest.skip("this kernel lets no test choose how much is linear (Linux 6.18)")
    interval = frags_counter.take()
    assert interval.total == PacketCount(1, len(frame))
    (record,) = interval.flows.values()
    assert (record.packets, record.bytes) == (1, len(frame))
    assert all(field in (known, blank) for field, known, blank in zip(record.key, FLOW, NO_FLOW, strict=True))
