"""Every packet is in one interval, also one that comes while an interval ends, and has its time."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.case import flow4
from tests.kernel.counter import Counter, Interval, counting, expected, present
from tests.kernel.reference import parse
from tests.kernel.traffic import FIRST, MANY, SECOND, frame_of, frames_of, segment, size_of
from tests.support.build import compile_bpf
from tests.support.frames import ACK, FIN, SYN, TCP
from xtrace.kernel.bpf import Map, Program
from xtrace.model.flow import FlowKey
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import CLOCK_MONOTONIC_COARSE


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
    active = counter.tables._switch._active
    counter.tables._store.reuse(1 - active.load())
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
    with counting(Plan.make(1000), present()._replace(realtime=True)) as counter:
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
        program.test_run(bytes(14), repeat=10)


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
        counter = owned.enter_context(counting(Plan.make(1), present()._replace(realtime=True)))
        maps = {name: owned.enter_context(Map.create(found)) for name, found in spec.maps.items()}
        slow = owned.enter_context(Program.prepare(spec.programs["slow"], maps)())
        running = owned.enter_context(ThreadPoolExecutor(1)).submit(run_until, stop, slow)
        owned.callback(stop.set)
        for _ in range(5):
            run = await_run(running, maps)
            counter.take()
            assert word(maps["ended"]) >= run


# times


def now(counter: Counter) -> int:
    """The packet program's clock, in ticks; its lower 32 bits."""
    return counter.tables.clock().tick


def await_tick(counter: Counter) -> int:
    """Return when the packet program's clock has moved on; what it showed before."""
    before = now(counter)
    while now(counter) == before:
        pass
    return before


def test_first_and_last_seen_are_when_packets_came(variant: Counter) -> None:
    before = now(variant)
    variant.count(FIRST)
    middle = await_tick(variant)
    variant.count(FIRST)
    after = now(variant)
    (record,) = variant.take().flows.values()
    assert before <= record.first <= middle < record.last <= after


@pytest.mark.parametrize("order", [1, -1], ids=["from the first CPU", "from the last CPU"])
def test_first_and_last_seen_by_several_cpus_are_the_earliest_and_the_latest(
    variant: Counter, cpus: list[int], order: int
) -> None:
    before = now(variant)
    ticks = []
    for cpu in cpus[::order]:
        os.sched_setaffinity(0, {cpu})
        variant.count(FIRST)
        ticks.append(await_tick(variant))
    (record,) = variant.take().flows.values()
    assert before <= record.first <= ticks[0]
    assert [before, *ticks][-2] <= record.last <= ticks[-1]
    assert record.first < record.last or len(cpus) == 1


def test_next_interval_has_times_of_its_own(variant: Counter) -> None:
    variant.measure([FIRST])
    before = now(variant)
    (record,) = variant.measure([FIRST]).flows.values()
    assert before <= record.first <= record.last


def test_first_and_last_seen_of_both_buffers_are_the_earliest_and_the_latest(variant: Counter) -> None:
    before = now(variant)
    active = variant.tables._switch._active
    variant.tables._store.reuse(1 - active.load())
    for _ in range(2):
        active.store(1 - active.load())
        variant.count(FIRST)
        after = await_tick(variant)
    (record,) = variant.finish().flows.values()
    assert before <= record.first < record.last <= after


def lies_within_its_interval(counter: Counter) -> bool:
    tick = round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9)
    start = time.monotonic_ns()
    counter.count(FIRST)
    end = time.monotonic_ns()
    (record,) = counter.take().flows.values()
    clock = counter.tables.clock()
    return start - tick <= clock.monotonic(record.first) and clock.monotonic(record.last) <= end + 2 * tick


def test_times_are_monotonic_time_to_one_kernel_tick(counter: Counter) -> None:
    # the tick itself may come late on a busy machine, but not ten times in a row
    assert any(lies_within_its_interval(counter) for _ in range(10))
