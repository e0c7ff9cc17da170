"""Every frame is counted once, with its whole length, under the flow its headers name, and passes unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from tests.kernel.cases import CASES, GROUPS, SHORT_CASES, Case
from tests.kernel.counter import Counter, expected
from tests.kernel.reference import NO_FLOW, parse
from tests.support.frames import ARP, IPV4, IPV6, VLAN, ethernet
from xtrace.flow import FlowKey, PacketCount

EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def skip_without_frags(counter: Counter, case: Case) -> None:
    if case.needs_frags and not counter.tables.features.frags:
        pytest.skip("this kernel gives XDP programs no frames longer than a page (Linux 5.18)")


@EVERY_CASE
def test_frame_is_counted_under_its_flow(counter: Counter, case: Case) -> None:
    skip_without_frags(counter, case)
    interval = counter.measure([case.frame])
    assert interval.sums == {case.key: (1, len(case.frame), case.tcp_flags)}
    assert interval.total == PacketCount(1, len(case.frame))
    assert [key.traffic_type for key in interval.flows] == [case.traffic_type]


def test_reference_parser_knows_every_flow() -> None:
    assert {case.name: parse(case.frame) for case in CASES} == {case.name: (case.key, case.tcp_flags) for case in CASES}


def numbered(frame: bytes, number: int) -> bytes:
    """The frame with `number` in its IPv4 or IPv6 source address, so that it is a flow of its own."""
    return frame if len(frame) < 30 else frame[:26] + number.to_bytes(4, "big") + frame[30:]


def is_part_of(partial: FlowKey, whole: FlowKey) -> bool:
    """Whether each field is as in `whole`, or unknown."""
    return all(field in (known, unknown) for field, known, unknown in zip(partial, whole, NO_FLOW, strict=True))


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())
def test_frame_cut_anywhere_is_counted_with_what_is_left(counter: Counter, group: Sequence[Case]) -> None:
    for case in group:
        skip_without_frags(counter, case)
        cuts = [numbered(case.frame, length)[:length] for length in range(14, len(case.frame) + 1)]
        interval = counter.measure(cuts)
        assert interval.total == PacketCount(len(cuts), sum(map(len, cuts))), case.name
        assert interval.sums == expected(cuts), case.name
        assert all(is_part_of(key, case.key._replace(src=key.src)) for key in interval.flows), case.name


def mutated(random: Random) -> bytes:
    """A known frame, damaged: bytes changed, cut, lengthened, or grafted onto another."""
    frame = bytearray(numbered(random.choice(SHORT_CASES).frame, random.getrandbits(32)))
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(frame))
        match random.randrange(5):
            case 0:
                frame[place] = random.randrange(256)
            case 1:
                frame[place] ^= 1 << random.randrange(8)
            case 2:
                del frame[max(place, 14) :]
            case 3:
                frame[place:place] = random.randbytes(random.randrange(1, 9))
            case 4:
                frame[place:] = random.choice(SHORT_CASES).frame[place:]
    return bytes(frame).ljust(14, b"\0")


def scrambled(random: Random) -> bytes:
    """Random bytes behind an Ethernet header, often with a version and header length that may be right."""
    ethertype = random.choice((IPV4, IPV4, IPV6, IPV6, ARP, VLAN, random.randrange(65536)))
    payload = bytearray(random.randbytes(random.randrange(150)))
    if payload and random.random() < 0.8:
        payload[0] = random.randrange(0x43, 0x50) if ethertype == IPV4 else random.randrange(0x5F, 0x71)
    if len(payload) > 9 and random.random() < 0.8:
        payload[6 if ethertype == IPV6 else 9] = random.choice((1, 6, 17, 58, 132))
    if len(payload) > 9 and ethertype == IPV4 and random.random() < 0.8:
        payload[6:8] = random.choice((b"\0\0", b"\x20\0", b"\x40\0", b"\x80\0", b"\0\x01"))
    return ethernet(ethertype, bytes(payload))


def first_miscounted(counter: Counter, frames: Sequence[bytes]) -> bytes:
    """One of `frames` that is wrong by itself, found by halving."""
    while len(frames) > 1:
        half = frames[: len(frames) // 2]
        frames = half if counter.measure(half).sums != expected(half) else frames[len(half) :]
    return frames[0]


@pytest.mark.parametrize("make", [mutated, scrambled])
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_random_frames_are_counted_as_the_reference_parser_says(
    counter: Counter, make: Callable[[Random], bytes], seed: int
) -> None:
    random = Random(seed)
    frames = [make(random) for _ in range(10_000)]
    interval = counter.measure(frames)
    assert interval.total == PacketCount(len(frames), sum(map(len, frames)))
    assert len(interval.flows) > 1000, "the frames are too much alike to test anything"
    if interval.sums != expected(frames):
        wrong = first_miscounted(counter, frames)
        pytest.fail(f"{wrong.hex()}: {parse(wrong)}, but counted as {counter.measure([wrong]).sums}")
