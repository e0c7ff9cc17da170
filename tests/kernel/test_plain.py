"""Plain frames take a short way to their flow (csrc/plain.h): the same flow that the parser says. And their marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from random import Random

import pytest

from tests.kernel.case import over_ipv4, over_ipv6
from tests.kernel.cases import SHORT_CASES
from tests.kernel.counter import TC, Counter, counting, skb_context
from tests.kernel.damage import MAKERS, Maker, frames_for
from tests.kernel.traffic import segment
from tests.support.frames import (
    ACK,
    IPV4,
    IPV6,
    SERVICE_VLAN,
    SYN,
    TCP,
    UDP,
    VLAN,
    bth,
    deth,
    ethernet,
    ipv4,
    ipv6,
    roce,
    tcp,
    udp,
    vlan,
)
from xtrace.kernel.bpf import SharedMemory
from xtrace.kernel.syscall import ffi
from xtrace.model.flow import FlowRecord
from xtrace.monitors.flows.stores import MappedFlows

FRAMES = 12_000
CE, ECT_0 = 3, 2
EXPEDITED = 46


def with_class(traffic_class: int, frame: bytes) -> bytes:
    """The frame with another traffic class; its checksum is of no interest."""
    if frame[12:14] == b"\x08\x00":
        return frame[:15] + bytes([traffic_class]) + frame[16:]
    first = 0x60 | traffic_class >> 4
    return frame[:14] + bytes([first, (traffic_class & 15) << 4 | frame[15] & 15]) + frame[16:]


TAGS: Mapping[str, Callable[[int, bytes], bytes]] = {
    "no tag": ethernet,
    "a tag": lambda ethertype, packet: ethernet(VLAN, vlan(7, ethertype, packet)),
    "a priority tag": lambda ethertype, packet: ethernet(VLAN, vlan(0, ethertype, packet, priority=5)),
    "a service tag": lambda ethertype, packet: ethernet(SERVICE_VLAN, vlan(7, ethertype, packet)),
    "two tags": lambda ethertype, packet: ethernet(SERVICE_VLAN, vlan(7, VLAN, vlan(8, ethertype, packet))),
}
PLAIN_TAGS = ("no tag", "a tag", "a priority tag")
NETWORKS: Mapping[str, tuple[int, Callable[..., bytes], int, tuple[int, ...]]] = {
    "IPv4": (IPV4, ipv4, 20, (0, 1, 2, 3, 6, 7, 9)),
    "IPv6": (IPV6, ipv6, 40, (0, 1, 4, 5, 6, 7)),
}
"""Ethertype, maker, length, and bytes that the short way looks at."""

TRANSPORTS: Mapping[str, tuple[int, bytes]] = {
    "TCP": (TCP, tcp(1024, 443, ACK | SYN, bytes(30))),
    "TCP to RoCE's port": (TCP, tcp(1024, 4791, ACK)),
    "UDP": (UDP, udp(1024, 443, bytes(20))),
    "RoCE v2": (UDP, roce(bth(4, 0x123456, bytes(32)))),
    "RoCE v2 with another opcode": (UDP, roce(bth(0x20, 0x123456, bytes(32)))),
    "RoCE v2 to another queue pair": (UDP, roce(bth(4, 0x563412, bytes(32), congestion=0xC0))),
}
"""What is plain behind an IP header."""

OTHERS: Sequence[tuple[int, bytes]] = (
    (UDP, roce(bth(0x64, 0x123456, deth(0x654321, bytes(32))))),
    (UDP, udp(9, 4791, bytes(40))),
    (UDP, udp(1, 2)),
    (UDP, udp(1, 4500, bytes(20))),
    (1, tcp(1, 2)),
    (132, tcp(1, 2)),
)


def in_frame(tag: str, network: str, transport: tuple[int, bytes]) -> bytes:
    ethertype, in_ip, *_ = NETWORKS[network]
    return TAGS[tag](ethertype, in_ip(*transport))


def nearly_plain(random: Random) -> bytes:
    """A plain frame with some of what the short way looks at changed, or cut."""
    tag, network = random.choice(list(TAGS)), random.choice(list(NETWORKS))
    _, _, length, in_network = NETWORKS[network]
    frame = bytearray(in_frame(tag, network, random.choice((*TRANSPORTS.values(), *OTHERS))))
    begin = 14 + 4 * (tag != "no tag") + 4 * (tag == "two tags")
    looked_at = [*range(12, begin), *(begin + place for place in in_network)]
    looked_at += [begin + length + place for place in (0, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15)]
    for place in random.sample([at for at in looked_at if at < len(frame)], random.choice((0, 0, 1, 2))):
        chosen = (0, 0x45, 0x46, 0x60, 6, 17, 0x40, 0x20, 33, 34, 14, 13, 0x64, frame[place] ^ 1 << random.randrange(8))
        frame[place] = random.choice((*chosen, random.randrange(256)))
    cut = random.randrange(min(begin + length, len(frame)), len(frame) + 1)
    return bytes(frame[: random.choice((len(frame), len(frame), cut))])


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
    """How many flows are found the short way by the CPU that counts them: in the table, of IPv6 among recent ones."""
    store, plan = counter.tables._store, counter.tables.plan
    recent = store._recent  # type: ignore[attr-defined]
    kept = [block[n] for buffer in (0, 1) for block in recent.of(buffer) for n in range(64)]
    found = sum(bool(place.entry and place.plain_rest) for place in kept)
    if isinstance(store, MappedFlows):
        with SharedMemory(counter.tables._maps["flow_index"], 2 * plan.index_bytes) as index:
            places = ffi.cast("struct index_place *", index.address)
            found += sum(bool(places[n].owner and places[n].plain_rest) for n in range(2 * plan.index_places))
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("tag", PLAIN_TAGS)
def test_plain_frames_do_take_the_short_way(hook: Counter, tag: str, network: str, transport: str) -> None:
    frame = in_frame(tag, network, TRANSPORTS[transport])
    hook.count(frame, repeat=3)
    assert plain_flows(hook) > 0
    assert hook.take().sums == hook.expected([frame] * 3)


@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag not in PLAIN_TAGS])
def test_frames_with_other_tags_do_not(hook: Counter, tag: str) -> None:
    frame = in_frame(tag, "IPv4", TRANSPORTS["TCP"])
    hook.count(frame, repeat=3)
    assert plain_flows(hook) == 0
    assert hook.take().sums == hook.expected([frame] * 3)


def test_flows_of_plain_frames_are_kept_apart(hook: Counter) -> None:
    """All of them among each other, whatever differs; frames with a priority tag are those without."""
    made = {
        (tag, network, transport): in_frame(tag, network, TRANSPORTS[transport])
        for tag in PLAIN_TAGS
        for network in NETWORKS
        for transport in TRANSPORTS
    }
    interval = hook.measure(list(made.values()) * 4)
    assert len(interval.flows) == len(made) * 2 // 3
    assert interval.sums == hook.expected(list(made.values()) * 4)


@pytest.mark.parametrize(
    "half", range(4), ids=["source begins", "source ends", "destination begins", "destination ends"]
)
def test_flows_whose_addresses_differ_in_one_bit_are_kept_apart(variant: Counter, half: int) -> None:
    """Of IPv6, whose addresses are not in the words that recent flows are first told apart by."""
    frames = []
    for bit in range(64):
        frame = bytearray(in_frame("no tag", "IPv6", TRANSPORTS["TCP"]))
        frame[22 + half * 8 + bit // 8] ^= 1 << bit % 8
        frames += [bytes(frame)] * 2
    assert variant.measure(frames * 2).sums == variant.expected(frames * 2)


@pytest.mark.parametrize("first", [20, 2], ids=["short way first", "general parser first"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_flow_may_come_both_ways(variant: Counter, network: str, first: int) -> None:
    """A datagram that is too short for the short way is of the same flow."""
    one, other = (in_frame("no tag", network, (UDP, udp(7, 8, bytes(size)))) for size in (first, 22 - first))
    (record,) = variant.measure([one, other] * 3 + [other] * 3).flows.values()
    assert (record.packets, record.bytes) == (9, 3 * len(one) + 6 * len(other))


@pytest.mark.parametrize("size", [0, 7, 100])
@pytest.mark.parametrize("number", [0, 3])
def test_merged_frames_count_the_same_either_way(size: int, number: int) -> None:
    frames = [in_frame(*made) for made in product(TAGS, NETWORKS, (*TRANSPORTS.values(), *OTHERS))]
    random = Random(size)
    options = [tcp(1, 2, ACK, bytes(200))[:12] + bytes([random.randrange(256), ACK]) + bytes(200) for _ in range(20)]
    frames += [
        in_frame(tag, network, (TCP, segment)) for tag, network in product(PLAIN_TAGS, NETWORKS) for segment in options
    ]
    found = []
    for plain in (True, False):
        with counting(program=TC, plain=plain) as counter:
            for frame in frames:
                counter.count(frame, context=skb_context(gso_size=size, gso_segs=number))
            found.append(counter.take())
    short, general = found
    assert short.counts == general.counts
    assert short.sums == general.sums


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
