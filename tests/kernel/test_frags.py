"""Frames that go on beyond the linear data, which is what a program reads directly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.case import flow4, flow6, over_ipv4, over_ipv6
from tests.kernel.cases import GROUPS
from tests.kernel.counter import Counter, Sums, counting, present, xdp_context
from tests.support.frames import ACK, DESTINATION, HOP_BY_HOP, IPV4, IPV6, TCP, ethernet, extension, ipv4, ipv6, tcp
from xtrace.errors import KernelError
from xtrace.model.flow import FlowKey, PacketCount
from xtrace.monitors.flows.plan import Plan

WEB = tcp(40000, 80, ACK)
FLOW = flow4(TCP, 40000, 80)
SHORTEST_LINEAR = 14
COPIED = 192
"""Bytes of a frame that are looked at where its headers are not linear."""


@pytest.fixture(scope="module")
def any_frags_counter() -> Iterator[Counter]:
    if not present().frags:
        pytest.skip("this kernel gives XDP programs no frames longer than a page (Linux 5.18)")
    with counting(Plan.make(1000)) as counter:
        yield counter


@pytest.fixture
def frags_counter(any_frags_counter: Counter) -> Counter:
    any_frags_counter.empty()
    return any_frags_counter


@pytest.fixture
def any_linear(frags_counter: Counter) -> Counter:
    """A program whose frames may have as few linear bytes as a test chooses."""
    try:
        frags_counter.program.test_run(bytes(64), context=xdp_context(SHORTEST_LINEAR))
    except KernelError:
        pytest.skip("this kernel lets no test choose how much is linear (Linux 6.18)")
    frags_counter.tables.collect(frags_counter.tables.flip())
    return frags_counter


@pytest.mark.parametrize("length", [3521, 4096, 4097, 8191, 9014, 20_000, 65_549])
def test_frame_longer_than_a_page_counts_with_its_whole_length(frags_counter: Counter, length: int) -> None:
    frame = over_ipv4(TCP, WEB + bytes(length - 54))
    interval = frags_counter.measure([frame, frame])
    assert interval.sums == {FLOW: (2, 2 * length, ACK)}
    assert interval.total == PacketCount(2, 2 * length)


JUMBO_OPTION = b"\xc2\x04"
"""RFC 2675, 2: the option's type and length"""


def test_packet_longer_than_its_length_field_can_say_has_its_headers(frags_counter: Counter) -> None:
    segment = WEB + bytes(65_600)
    jumbo = bytes([TCP, 0]) + JUMBO_OPTION + (8 + len(segment)).to_bytes(4, "big") + segment
    frames = [
        ethernet(IPV4, ipv4(TCP, segment, total=0)),
        ethernet(IPV6, ipv6(HOP_BY_HOP, jumbo, length=0)),
        ethernet(IPV6, ipv6(TCP, segment, length=0)),
    ]
    assert frags_counter.measure(frames).sums == {
        FLOW: (1, len(frames[0]), ACK),
        flow6(TCP, 40000, 80): (2, len(frames[1]) + len(frames[2]), ACK),
    }
    assert frags_counter.measure(frames[:1]).sums == frags_counter.expected(frames[:1])


def test_short_and_long_frames_of_a_flow_add_up(frags_counter: Counter) -> None:
    lengths = [54, 1514, 4097, 60, 65_549]
    interval = frags_counter.measure(over_ipv4(TCP, WEB + bytes(length - 54)) for length in lengths)
    assert interval.sums == {FLOW: (len(lengths), sum(lengths), ACK)}


@pytest.mark.parametrize("group", GROUPS)
def test_frame_is_counted_under_its_flow_however_little_of_it_is_linear(any_linear: Counter, group: str) -> None:
    sums: Sums = {}
    for case in GROUPS[group]:
        lengths = range(SHORTEST_LINEAR, len(case.frame) if len(case.frame) <= COPIED else 0)
        for linear in lengths:
            any_linear.count(case.frame, context=xdp_context(linear))
        packets, size, flags = sums.get(case.key, (0, 0, 0))
        times = len(lengths)
        sums[case.key] = (packets + times, size + times * len(case.frame), flags | case.tcp_flags)
    assert any_linear.take().sums == {key: found for key, found in sums.items() if found[0]}


@pytest.mark.parametrize("linear", [14, 33, 34, 37, 38, 47, 48, 60])
def test_long_frame_with_few_linear_bytes_counts_with_its_whole_length(any_linear: Counter, linear: int) -> None:
    frame = over_ipv4(TCP, WEB + bytes(6000))
    any_linear.count(frame, context=xdp_context(linear))
    assert any_linear.take().sums == {FLOW: (1, len(frame), ACK)}


@pytest.mark.parametrize(
    ("start", "known", "flags"),
    [(174, flow6(TCP, 40000, 80), ACK), (182, flow6(TCP, 40000, 80), 0), (190, flow6(TCP), 0)],
    ids=["ports and flags", "ports", "neither"],
)
def test_tcp_header_is_known_as_far_as_it_is_copied(
    any_linear: Counter, start: int, known: FlowKey, flags: int
) -> None:
    frame = over_ipv6(HOP_BY_HOP, extension(TCP, WEB + bytes(3000), length=(start - 54) // 8 - 1))
    any_linear.count(frame, context=xdp_context(60))
    assert any_linear.take().sums == {known: (1, len(frame), flags)}


def test_frame_whose_headers_are_all_linear_is_not_limited_to_the_copy(any_linear: Counter) -> None:
    inner = extension(TCP, WEB + bytes(3000), length=30)
    frame = over_ipv6(HOP_BY_HOP, extension(DESTINATION, inner, length=30))
    any_linear.count(frame, context=xdp_context(1000))
    assert any_linear.take().sums == {flow6(TCP, 40000, 80): (1, len(frame), ACK)}
