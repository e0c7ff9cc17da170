"""Plain frames take a short way to their flow (csrc/plain.h): the same flow that the parser says. And their marks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest

from tests.kernel.case import over_ipv4, over_ipv6
from tests.kernel.cases import SHORT_CASES
from tests.kernel.counter import TC, Counter, counting, skb_context
from tests.kernel.damage import MAKERS, Maker, frames_for
from tests.kernel.traffic import segment
from tests.support.frames import ACK, IPV4, SYN, TCP, UDP, ethernet, ipv4, tcp, udp
from xtrace.kernel.bpf import SharedMemory
from xtrace.kernel.syscall import ffi
from xtrace.model.flow import FlowRecord

FRAMES = 12_000
CE, ECT_0 = 3, 2
EXPEDITED = 46


def with_class(traffic_class: int, frame: bytes) -> bytes:
    """The frame with another traffic class; its checksum is of no interest."""
    if frame[12:14] == b"\x08\x00":
        return frame[:15] + bytes([traffic_class]) + frame[16:]
    first = 0x60 | traffic_class >> 4
    return frame[:14] + bytes([first, (traffic_class & 15) << 4 | frame[15] & 15]) + frame[16:]


def nearly_plain(random: Random) -> bytes:
    """A plain frame with some of what the short way looks at changed, or cut."""
    segment = tcp(random.choice((53, 4791, 80)), 443, SYN, bytes(30))
    transport = random.choice((segment, udp(9, 4791, bytes(40)), udp(1, 2)))
    frame = bytearray(ethernet(IPV4, ipv4(random.choice((TCP, UDP, TCP, UDP, 1, 132)), transport)))
    looked_at = [12, 13, 14, 15, 16, 17, 20, 21, 23, 34, 36, 37, 38, 39, 46, 47]
    for place in random.sample([at for at in looked_at if at < len(frame)], random.choice((0, 0, 1, 2))):
        frame[place] = random.choice((0, 0x45, 0x46, 6, 17, 0x40, 0x20, 33, 34, random.randrange(256)))
    return bytes(frame[: random.choice((len(frame), len(frame), random.randrange(34, len(frame) + 1)))])


@pytest.fixture(scope="module")
def both_ways(any_hook: Counter) -> Iterator[tuple[Counter, Counter]]:
    with ExitStack() as owned:
        program, place = any_hook.program.name, any_hook.place
        ways = (True, False)
        yield tuple(
            owned.enter_context(counting(program=program, direction=place.direction, plain=plain)) for plain in ways
        )  # type: ignore[misc]


def assert_same(both_ways: tuple[Counter, Counter], frames: list[bytes]) -> None:
    short, general = (counter.measure(frames) for counter in both_ways)
    assert short.counts == general.counts
    told = [{key: flow[1:-2] for key, flow in way.flows.items()} for way in (short, general)]
    assert told[0] == told[1]


def test_every_known_frame_is_the_same_flow_either_way(both_ways: tuple[Counter, Counter]) -> None:
    assert_same(both_ways, [case.frame for case in SHORT_CASES if both_ways[0].takes(case.frame)] * 2)


@pytest.mark.parametrize("make", [*MAKERS, nearly_plain])
def test_random_frames_are_the_same_flows_either_way(both_ways: tuple[Counter, Counter], make: Maker) -> None:
    assert_same(both_ways, list(frames_for(both_ways[0], make, 7, FRAMES)))


def plain_flows(counter: Counter) -> int:
    """How many flows of the table are found the short way by the CPU that owns them."""
    store, plan = counter.tables._store, counter.tables.plan
    with SharedMemory(store._index, 2 * plan.index_bytes) as index:  # type: ignore[attr-defined]
        places = ffi.cast("struct index_place *", index.address)
        return sum(bool(places[n].owner and places[n].plain_rest) for n in range(2 * plan.index_places))


def test_plain_frames_do_take_the_short_way(hook: Counter) -> None:
    plain = [segment(ACK), *(over_ipv4(UDP, udp(port, 2, bytes(20))) for port in range(1, 8))]
    for frame in (*plain, over_ipv6(TCP, tcp(1, 2))):
        hook.count(frame, repeat=3)
    assert plain_flows(hook) == 8
    assert len(hook.take().flows) == 9


# DSCP and ECN


def only_flow(variant: Counter, *frames: bytes) -> FlowRecord:
    (record,) = variant.measure(frames).flows.values()
    return record


@pytest.mark.parametrize("frame", [segment(ACK), over_ipv6(TCP, tcp(1024, 80))], ids=["IPv4", "IPv6"])
def test_dscp_and_congestion_marks_of_a_flow(variant: Counter, frame: bytes) -> None:
    marked, calm = with_class(EXPEDITED << 2 | CE, frame), with_class(EXPEDITED << 2 | ECT_0, frame)
    record = only_flow(variant, calm, marked, marked, calm, marked)
    assert (record.dscp, record.dscp_changed, record.ecn_ce_packets) == (EXPEDITED, False, 3)
    record = only_flow(variant, frame)
    assert (record.dscp, record.dscp_changed, record.ecn_ce_packets) == (0, False, 0)


@pytest.mark.parametrize("frame", [segment(ACK), over_ipv6(TCP, tcp(1024, 80))], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("last", [0, EXPEDITED])
@pytest.mark.parametrize("before", [1, 2, 3, 5])
def test_dscp_that_changes_is_the_last_ones_and_marked(variant: Counter, frame: bytes, last: int, before: int) -> None:
    other = with_class((EXPEDITED - last) << 2, frame)
    record = only_flow(variant, *[other] * before, *[with_class(last << 2, frame)] * 2)
    assert (record.dscp, record.dscp_changed) == (last, True)
    record = only_flow(variant, *[with_class(EXPEDITED << 2, frame)] * (before + 2))
    assert (record.dscp, record.dscp_changed) == (EXPEDITED, False)


def test_dscp_of_a_flow_that_is_displaced_among_the_recent_ones_is_kept(variant: Counter) -> None:
    first, rival = with_class(EXPEDITED << 2 | CE, segment(ACK)), segment(ACK, port=1025)
    interval = variant.measure([first, first, first, rival, rival, rival, first, rival, rival])
    marks = sorted((flow.dscp, flow.dscp_changed, flow.ecn_ce_packets) for flow in interval.flows.values())
    assert marks == [(0, False, 0), (EXPEDITED, False, 4)]


def test_merged_packet_with_a_congestion_mark_counts_as_all_its_segments() -> None:
    frame = with_class(CE, over_ipv4(TCP, tcp(1024, 80, ACK, bytes(300))))
    with counting(program=TC) as counter:
        counter.count(frame, context=skb_context(gso_size=100, gso_segs=3))
        (record,) = counter.take().flows.values()
    assert (record.packets, record.ecn_ce_packets) == (3, 3)
