"""Flows, totals, intervals: what is counted is counted once, in its flow or as unattributed, in one interval."""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.cases import SHORT_CASES, flow4, over_ipv4, over_ipv6
from tests.kernel.counter import INGRESS, MAX_FLOWS, Counter, Interval, counting, expected, present, read
from tests.kernel.reference import parse
from tests.support.build import compile_bpf
from tests.support.frames import ACK, FIN, IPV4, SYN, TCP, UDP, ethernet, ipv4, tcp, udp
from xtrace.flow import COUNTERS, KEY, FlowKey, InterfaceCounts, PacketCount
from xtrace.kernel.bpf import Batch, Map, Program
from xtrace.kernel.syscall import ffi
from xtrace.monitors.tables import (
    CLOCK_MONOTONIC_COARSE,
    Drained,
    Plan,
    load_object_spec,
    merge_duplicates,
)

VARIANTS: Mapping[str, Mapping[str, bool | int]] = {
    "as the tool runs": {},
    "one cache entry": {"cache_entries": 1},
    "two cache entries": {"cache_entries": 2},
    "PREEMPT_RT": {"realtime": True},
    "no batches of per-CPU arrays": {"percpu_batch": False},
    "no frags": {"frags": False},
    "no type information": {"btf": False},
}
"""What differs from a Plan or from what this kernel can do."""

CACHES = ("as the tool runs", "one cache entry", "PREEMPT_RT")


def build(plan: Plan, changes: Mapping[str, bool | int]) -> Iterator[Counter]:
    """A Counter with one of VARIANTS."""
    of_features = {name: bool(value) for name, value in changes.items() if name != "cache_entries"}
    plan = replace(plan, cache_entries=changes.get("cache_entries", plan.cache_entries))
    with counting(plan, replace(present(), **of_features)) as counter:
        yield counter


@pytest.fixture(scope="module", params=list(VARIANTS.values()), ids=list(VARIANTS))
def any_variant(request: pytest.FixtureRequest) -> Iterator[Counter]:
    yield from build(Plan.make(MAX_FLOWS), request.param)


@pytest.fixture
def variant(any_variant: Counter) -> Counter:
    any_variant.empty()
    return any_variant


FULL = 16

MANY = 12_000
"""More flows than the front caches of two CPUs hold, and the hash has collisions."""


@pytest.fixture(scope="module", params=[VARIANTS[name] for name in CACHES], ids=CACHES)
def any_small(request: pytest.FixtureRequest) -> Iterator[Counter]:
    yield from build(Plan.make(FULL), request.param)


@pytest.fixture
def small(any_small: Counter) -> Counter:
    """Room for FULL flows."""
    any_small.empty()
    return any_small


def frame_of(flow: int) -> bytes:
    """A frame of one of 2^24 flows, of a length of its own."""
    source = f"10.{flow >> 16}.{flow >> 8 & 255}.{flow & 255}"
    return ethernet(IPV4, ipv4(UDP, udp(flow & 0xFFFF, 9, bytes(flow % 97)), src=source))


def frames_of(flows: int) -> list[bytes]:
    return [frame_of(flow) for flow in range(flows)]


def shuffled(frames: Sequence[bytes]) -> list[bytes]:
    return random.Random(1).sample(frames, len(frames))


def size_of(frames: Sequence[bytes]) -> PacketCount:
    return PacketCount(len(frames), sum(map(len, frames)))


FIRST, SECOND = frame_of(1), frame_of(2)


def segment(flags: int, port: int = 1024) -> bytes:
    return over_ipv4(TCP, tcp(port, 80, flags))


# flows


def test_packets_of_one_flow_add_up(variant: Counter) -> None:
    variant.count(FIRST, repeat=1000)
    variant.count(FIRST, repeat=234)
    assert variant.take().sums == {parse(FIRST).key: (1234, 1234 * len(FIRST), 0)}


def test_tcp_flags_of_a_flow_are_ored(variant: Counter) -> None:
    for flags in (SYN, ACK, ACK, FIN | ACK):
        variant.count(segment(flags))
        variant.count(segment(0, port=1025))  # takes the flow's place in a cache of one entry
    sums = variant.take().sums
    assert sums[flow4(TCP, 1024, 80)] == (4, 4 * 54, SYN | ACK | FIN)
    assert sums[flow4(TCP, 1025, 80)] == (4, 4 * 54, 0)


def test_every_pair_of_tcp_flags_is_ored(variant: Counter) -> None:
    frames = [segment(1 << bit, port=8 * one + other) for one in range(8) for other in range(8) for bit in (one, other)]
    assert variant.measure(shuffled(frames)).sums == expected(frames)


def flipped(frame: bytes, bit: int) -> bytes:
    """The frame with one bit changed, counted from its first byte's lowest."""
    byte, place = divmod(bit, 8)
    return frame[:byte] + bytes([frame[byte] ^ 1 << place]) + frame[byte + 1 :]


def test_flows_that_differ_in_one_bit_are_told_apart(variant: Counter) -> None:
    base = over_ipv6(UDP, udp(1024, 80))
    addresses_and_ports = range(8 * 22, 8 * 58)
    others = [flipped(base, bit) for bit in addresses_and_ports]
    frames = [frame for other in others for frame in (base, other)]
    sums = variant.measure(frames).sums
    assert sums == expected(frames)
    assert len(sums) == 1 + len(others)


def test_many_flows_lose_nothing(variant: Counter) -> None:
    frames = shuffled([frame for flow in range(MANY) for frame in [frame_of(flow)] * (1 + flow % 3)])
    interval = variant.measure(frames)
    assert len(interval.flows) == MANY
    assert interval.sums == expected(frames)
    assert interval.total == size_of(frames)


@pytest.fixture
def cpus() -> Iterator[list[int]]:
    """The CPUs this process may run on, and may again afterwards."""
    allowed = os.sched_getaffinity(0)
    yield sorted(allowed)
    os.sched_setaffinity(0, allowed)


def test_flow_seen_by_every_cpu_is_one_record(variant: Counter, cpus: list[int]) -> None:
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        variant.count(segment(1 << cpu % 8))
    flags = sum({1 << cpu % 8 for cpu in cpus})
    assert variant.take().sums == {flow4(TCP, 1024, 80): (len(cpus), len(cpus) * 54, flags)}


def test_capacity_is_the_flows_asked_for(small: Counter) -> None:
    interval = small.measure(frames_of(FULL))
    assert interval.sums == expected(frames_of(FULL))
    assert not interval.unattributed


def test_full_table_counts_packets_as_unattributed(small: Counter) -> None:
    frames = shuffled([frame for flow in range(5 * FULL) for frame in [frame_of(flow)] * (1 + flow % 3)])
    interval = small.measure(frames)
    assert len(interval.flows) == FULL
    sent = expected(frames)
    assert all(sent[key][0] >= packets for key, (packets, _, _) in interval.sums.items())
    in_flows = PacketCount(*map(sum, list(zip(*interval.sums.values(), strict=True))[:2]))
    assert interval.unattributed == {"UDP": size_of(frames) - in_flows}


def by_traffic_type(sums: Mapping[FlowKey, tuple[int, int, int]]) -> dict[str, PacketCount]:
    found: dict[str, PacketCount] = {}
    for key, (packets, size, _) in sums.items():
        found[key.traffic_type] = found.get(key.traffic_type, PacketCount(0, 0)) + PacketCount(packets, size)
    return found


def test_full_table_counts_unattributed_packets_by_traffic_type(small: Counter) -> None:
    frames = shuffled([case.frame for case in SHORT_CASES for _ in range(3)])
    interval = small.measure(frames)
    assert len(interval.flows) == FULL
    found = by_traffic_type(interval.sums)
    for name, count in interval.unattributed.items():
        found[name] = found.get(name, PacketCount(0, 0)) + count
    assert found == by_traffic_type(expected(frames))
    assert len(interval.unattributed) > 2


def test_full_table_has_room_again_in_the_next_intervals(small: Counter) -> None:
    small.measure(frames_of(5 * FULL))
    for _ in range(3):
        interval = small.measure(frames_of(FULL))
        assert interval.sums == expected(frames_of(FULL))
        assert not interval.unattributed


# intervals


def test_packets_after_the_flip_are_in_the_next_interval_only(variant: Counter) -> None:
    assert variant.measure([FIRST] * 3).sums == expected([FIRST] * 3)
    assert variant.measure([FIRST, SECOND]).sums == expected([FIRST, SECOND])
    assert variant.measure([SECOND]).sums == expected([SECOND])


def test_interval_without_packets_is_empty(variant: Counter) -> None:
    variant.measure([FIRST, SECOND])
    assert variant.take() == Interval({}, {})
    assert variant.take() == Interval({}, {})


def count_in_both(counter: Counter, first: Sequence[bytes], second: Sequence[bytes]) -> None:
    """Fill both buffers, as if packets came between a flip and its drain: `first` in the one that is active then."""
    active = counter.tables._active
    active.store(1 - active.load())
    for frame in second:
        counter.count(frame)
    active.store(1 - active.load())
    for frame in first:
        counter.count(frame)


def test_packets_between_flip_and_drain_stay_in_the_next_interval(variant: Counter) -> None:
    first, second = frames_of(50), frames_of(70)
    count_in_both(variant, first, second)
    assert variant.take().sums == expected(first)
    assert variant.take().sums == expected(second)


def test_finish_drains_both_buffers(variant: Counter) -> None:
    count_in_both(variant, frames_of(50), frames_of(70)[40:])
    interval = variant.finish()
    assert interval.sums == expected(frames_of(50) + frames_of(70)[40:])
    assert interval.total == size_of(frames_of(50) + frames_of(70)[40:])
    assert variant.take() == Interval({}, {})


def test_finish_gives_a_flow_of_both_buffers_as_one_record(variant: Counter) -> None:
    count_in_both(variant, [segment(FIN)], [segment(SYN)] * 2)
    assert variant.finish().sums == {flow4(TCP, 1024, 80): (3, 3 * 54, SYN | FIN)}


def test_finish_with_both_tables_full_gives_every_flow() -> None:
    flows = frames_of(2000)
    with counting(Plan.make(1000), replace(present(), realtime=True)) as counter:
        count_in_both(counter, flows[:1000], flows[1000:])
        interval = counter.finish()
        assert interval.sums == expected(flows)
        assert not interval.unattributed


def test_small_interval_after_a_large_one_has_no_stale_flows(counter: Counter) -> None:
    counter.measure(frames_of(MANY))
    assert counter.measure([SECOND]).sums == expected([SECOND])


REPEAT = 20_000


def count_until(stop: threading.Event, counter: Counter, cpu: int, frames: Sequence[bytes]) -> int:
    """Count each frame REPEAT times on one CPU, again and again; how often."""
    os.sched_setaffinity(0, {cpu})  # of this thread
    rounds = 0
    while not stop.is_set():
        for frame in frames:
            counter.count(frame, repeat=REPEAT)
        rounds += 1
    return rounds


def take_while(running: Sequence[Future[int]], counter: Counter, wanted: int) -> list[Interval]:
    """Flip until `wanted` intervals had packets."""
    intervals: list[Interval] = []
    while len(intervals) < wanted and not any(future.done() for future in running):
        interval = counter.take()
        intervals += [interval] if interval.flows else []
    return intervals


def test_flips_while_every_cpu_counts_lose_nothing(variant: Counter, cpus: list[int]) -> None:
    shared, own = segment(SYN | ACK), [frame_of(cpu) for cpu in cpus]
    stop = threading.Event()
    with ThreadPoolExecutor(len(cpus)) as pool:
        running = [
            pool.submit(count_until, stop, variant, cpu, [shared, mine, shared])
            for cpu, mine in zip(cpus, own, strict=True)
        ]
        try:
            intervals = take_while(running, variant, 10)
        finally:
            stop.set()
        rounds = [future.result() for future in running]
    packets: Tally[FlowKey] = Tally()
    for interval in [*intervals, variant.finish()]:
        packets.update({key: record.packets for key, record in interval.flows.items()})
    sent = {parse(frame).key: times * REPEAT for frame, times in zip(own, rounds, strict=True)}
    assert packets == {**sent, parse(shared).key: 2 * sum(rounds) * REPEAT}


def run_until(stop: threading.Event, program: Program) -> None:
    while not stop.is_set():
        program.test_run(bytes(14))


def word(owner: Map) -> int:
    """The 32-bit variable that is alone in a data map."""
    return int.from_bytes((owner.lookup(bytes(4)) or b"")[:4], "little")


def await_run(running: Future[None], maps: Mapping[str, Map]) -> int:
    """Return when the slow program is at work; its run's number."""
    while (run := word(maps["begun"])) <= word(maps["ended"]):
        assert not running.done()
    return run


def test_interval_is_read_only_when_every_program_that_ran_at_the_flip_has_ended() -> None:
    spec = compile_bpf(Path(__file__).parent / "slow.c")
    stop = threading.Event()
    with ExitStack() as owned:
        counter = owned.enter_context(counting(Plan.make(1), replace(present(), realtime=True)))
        maps = {name: owned.enter_context(Map.create(found)) for name, found in spec.maps.items()}
        slow = owned.enter_context(Program.load(spec.programs["slow"], maps))
        running = owned.enter_context(ThreadPoolExecutor(1)).submit(run_until, stop, slow)
        owned.callback(stop.set)
        for _ in range(30):
            run = await_run(running, maps)
            counter.take()
            assert word(maps["ended"]) >= run


# times


def now_ns(counter: Counter) -> int:
    """The packet program's clock."""
    with counter.tables.load("sample_clock") as program:
        (sample,) = struct.unpack_from("=Q", program.test_run(bytes(16)).frame)
    return int(sample)


def await_tick(counter: Counter) -> int:
    """Return when the packet program's clock has moved on; what it showed before."""
    before = now_ns(counter)
    while now_ns(counter) == before:
        pass
    return before


def test_first_and_last_seen_are_when_packets_came(variant: Counter) -> None:
    before = now_ns(variant)
    variant.count(FIRST)
    middle = await_tick(variant)
    variant.count(FIRST)
    after = now_ns(variant)
    (record,) = variant.take().flows.values()
    assert before <= record.first_ns <= middle < record.last_ns <= after


@pytest.mark.parametrize("order", [1, -1], ids=["from the first CPU", "from the last CPU"])
def test_first_and_last_seen_by_several_cpus_are_the_earliest_and_the_latest(
    variant: Counter, cpus: list[int], order: int
) -> None:
    before = now_ns(variant)
    ticks = []
    for cpu in cpus[::order]:
        os.sched_setaffinity(0, {cpu})
        variant.count(FIRST)
        ticks.append(await_tick(variant))
    (record,) = variant.take().flows.values()
    assert before <= record.first_ns <= ticks[0]
    assert [before, *ticks][-2] <= record.last_ns <= ticks[-1]
    assert record.first_ns < record.last_ns or len(cpus) == 1


def test_next_interval_has_times_of_its_own(variant: Counter) -> None:
    variant.measure([FIRST])
    before = now_ns(variant)
    (record,) = variant.measure([FIRST]).flows.values()
    assert before <= record.first_ns <= record.last_ns


def test_first_and_last_seen_of_both_buffers_are_the_earliest_and_the_latest(variant: Counter) -> None:
    before = now_ns(variant)
    active = variant.tables._active
    for _ in range(2):
        active.store(1 - active.load())
        variant.count(FIRST)
        after = await_tick(variant)
    (record,) = variant.finish().flows.values()
    assert before <= record.first_ns < record.last_ns <= after


def lies_within_its_interval(counter: Counter) -> bool:
    tick = round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9)
    start = time.monotonic_ns()
    counter.count(FIRST)
    end = time.monotonic_ns()
    (record,) = counter.take().flows.values()
    offset = min(counter.tables.clock_offset() for _ in range(5))
    return start - tick <= record.first_ns + offset and record.last_ns + offset <= end + tick


def test_times_are_monotonic_time_to_one_kernel_tick(counter: Counter) -> None:
    # the tick itself may come late on a busy machine, but not ten times in a row
    assert any(lies_within_its_interval(counter) for _ in range(10))


# duplicates


def batch_of(entries: Sequence[tuple[bytes, tuple[int, int, int, int, int]]]) -> Batch:
    batch = Batch(KEY.size, COUNTERS.size, len(entries) + 2, len(entries))
    ffi.memmove(batch.keys, b"".join(key.ljust(KEY.size, b"\0") for key, _ in entries), len(entries) * KEY.size)
    values = b"".join(COUNTERS.pack(*counters) for _, counters in entries)
    ffi.memmove(batch.values, values, len(values))
    return batch


def entries_of(batch: Batch) -> list[tuple[bytes, tuple[int, ...]]]:
    keys, values = bytes(ffi.buffer(batch.keys)), bytes(ffi.buffer(batch.values))
    return [
        (
            keys[index * KEY.size : (index + 1) * KEY.size].rstrip(b"\0"),
            COUNTERS.unpack_from(values, index * COUNTERS.size),
        )
        for index in range(batch.count)
    ]


def test_duplicates_are_merged_into_one_flow() -> None:
    batch = batch_of(
        [
            (b"a", (1, 60, 50, 70, 0x01)),
            (b"b", (2, 120, 10, 20, 0)),
            (b"a", (10, 600, 40, 60, 0x0200)),
            (b"c", (4, 240, 5, 5, 1 << 63)),
            (b"b", (1, 1, 30, 30, 0)),
            (b"a", (100, 6000, 60, 80, 0x01)),
        ]
    )
    merge_duplicates(batch)
    assert entries_of(batch) == [
        (b"a", (111, 6660, 40, 80, 0x0201)),
        (b"b", (3, 121, 10, 30, 0)),
        (b"c", (4, 240, 5, 5, 1 << 63)),
    ]


def test_flows_without_duplicates_stay_as_they_are() -> None:
    entries = [(bytes([1 + flow]), (flow, flow, flow, flow, flow)) for flow in range(100)]
    batch = batch_of(entries)
    merge_duplicates(batch)
    assert entries_of(batch) == entries


# interface slots


def test_program_counts_under_its_slot() -> None:
    with counting(Plan.make(100, slots=2), slot=1) as counter:
        for frames in (frames_of(3), frames_of(5)):
            for frame in frames:
                counter.count(frame)
            drained = counter.tables.take()
            assert drained.counts == {(1, False): InterfaceCounts(size_of(frames))}
            assert set(read(drained).flows) == {parse(frame).key._replace(slot=1) for frame in frames}
            assert list(drained.flows.indexes(1, egress=False)) == list(range(len(frames)))
            assert not drained.flows.indexes(0, egress=False)


def take_of_two(counter: Counter) -> Drained:
    with counter.tables.load("xdp_ingress", slot=1) as second:
        counter.count(FIRST, repeat=3)
        second.test_run(FIRST, repeat=5)
    return counter.tables.take()


def test_interfaces_that_share_the_tables_do_not_mix() -> None:
    key, size = parse(FIRST).key, len(FIRST)
    with counting(Plan.make(100, slots=2)) as counter:
        for _ in range(2):
            interval = read(take_of_two(counter))
            assert interval.counts[INGRESS] == InterfaceCounts(PacketCount(3, 3 * size))
            assert interval.counts[1, False] == InterfaceCounts(PacketCount(5, 5 * size))
            assert interval.sums == {key: (3, 3 * size, 0), key._replace(slot=1): (5, 5 * size, 0)}


# what may be missing


def test_tool_counts_where_the_kernel_refuses_its_type_information() -> None:
    spec = replace(load_object_spec(), btf=b"no BTF")
    with counting(Plan.make(100), spec=spec) as counter:
        assert counter.measure(frames_of(3)).sums == expected(frames_of(3))
