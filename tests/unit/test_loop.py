"""The main loop: when it ticks, when it ends, and what the sinks see."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.conftest import Pipe
from tests.unit.make import ETH0, counts_of, flow, snapshot
from xtrace import loop as loop_module
from xtrace.errors import XtraceError
from xtrace.loop import Loop
from xtrace.model.flow import FlowSnapshot, PacketCount, Unattached
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.model.words import Absence
from xtrace.service import Service
from xtrace.sinks import Run
from xtrace.sinks.registry import Totals
from xtrace.sinks.stream import OutputClosed, OutputStream
from xtrace.stop import Stop

MS = 1_000_000
INTERVAL = 100 * MS
MINUTE = 60 * 1000 * MS
HOUR = 60 * MINUTE
NO_SERVICE = Service({})
POLL_EVENTS = {name: getattr(select, name) for name in ("POLLIN", "POLLERR", "POLLHUP", "POLLNVAL")}


class Clock:
    """Time that passes only where the loop waits, or a test says so."""

    def __init__(self) -> None:
        self.now = 12_345_678
        self.waits: list[int] = []
        self.longest_wait = HOUR
        self.events: list[tuple[int, int]] = []
        self.registered: dict[int, int] = {}

    def monotonic_ns(self) -> int:
        return self.now

    def register(self, fd: int, events: int = 0) -> None:
        """As of select.poll()."""
        self.registered[fd] = events

    def poll(self, milliseconds: int) -> list[tuple[int, int]]:
        assert milliseconds > 0, "spinning"
        self.waits.append(milliseconds)
        self.now += min(milliseconds * MS, self.longest_wait)
        return self.events


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock in place of the loop's `time`, and of what it waits with."""
    made = Clock()
    monkeypatch.setattr(loop_module, "time", made)
    monkeypatch.setattr(loop_module, "select", SimpleNamespace(poll=lambda: made, **POLL_EVENTS))
    return made


class Woken:
    """select.poll() that must not wait as long as it may."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register

    def poll(self, milliseconds: int) -> list[tuple[int, int]]:
        events = self._poll.poll(milliseconds)
        assert events, "it slept until the deadline"
        return events


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's waits are ended by events alone."""
    monkeypatch.setattr(loop_module, "select", SimpleNamespace(poll=Woken, **POLL_EVENTS))


class Watched:
    """A monitor that yields one flow per tick, and remembers when it was asked."""

    def __init__(self, now: Callable[[], int] = lambda: 0, ends_at: int = 0, fd: int | None = None) -> None:
        self.mode, self.setup = "xdp", Setup()
        self.ended = False
        self.asked: list[str] = []
        self.at: list[int] = []
        self.flips: list[int] = []
        self.reacts: Callable[[], None] = lambda: None
        self._now = now
        self._ends_at = ends_at
        self._fd = self.silent() if fd is None else fd

    @staticmethod
    def silent() -> int:
        """A descriptor that is never readable."""
        raise NotImplementedError

    def fileno(self) -> int:
        return self._fd

    def react(self) -> None:
        self.asked.append("react")
        self.reacts()

    def _snapshot(self) -> FlowSnapshot:
        self.at.append(self._now())
        flows = [flow(packets=len(self.asked), size=100 * len(self.asked))]
        counts = counts_of(flows, (PacketCount(1, 60), *(PacketCount(0, 0),) * 8), PacketCount(2, 120))
        return snapshot(flows, [(ETH0, counts)])

    def flip(self, last: bool = False) -> None:
        self.flips.append(self._now())

    def tick(self) -> FlowSnapshot:
        self.asked.append("tick")
        self.ended = len(self.asked) == self._ends_at
        return self._snapshot()

    def finish(self) -> FlowSnapshot:
        self.asked.append("finish")
        self.ended = True
        return self._snapshot()

    def close(self) -> None:
        self.asked.append("close")


@pytest.fixture(autouse=True)
def silent_descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of monitors that have nothing to react to."""
    opened: list[int] = []

    def open_one() -> int:
        opened.append(os.eventfd(0))
        return opened[-1]

    monkeypatch.setattr(Watched, "silent", staticmethod(open_one))
    yield
    for fd in opened:
        os.close(fd)


class Written:
    """A sink that keeps what it gets; `each` runs with every snapshot."""

    def __init__(self, each: Callable[[int], None] = lambda number: None) -> None:
        self.snapshots: list[FlowSnapshot] = []
        self.totals: list[Totals] = []
        self._each = each

    def start(self, run: Run) -> None:
        """Not the loop's business."""

    def write(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, FlowSnapshot)
        self.snapshots.append(snapshot)
        self._each(len(self.snapshots))

    def flush(self) -> None:
        """Nothing is kept back."""

    def end(self, totals: Totals) -> None:
        self.totals.append(totals)


@pytest.fixture
def stream(pipe: Pipe, stop: Stop) -> OutputStream:
    return OutputStream(pipe.writer, stop)


RunLoop = Callable[..., Loop]


@pytest.fixture
def run(stop: Stop, stream: OutputStream) -> RunLoop:
    """Runs a loop to its end."""

    def start(
        monitors: Sequence[Watched],
        sinks: Sequence[Written],
        count: int = 0,
        interval: int = INTERVAL,
        service: Service = NO_SERVICE,
    ) -> Loop:
        made = Loop(monitors, sinks, stop, stream, interval, service)
        made.run(count)
        return made

    return start


def raising(error: Exception, at: int) -> Callable[[int], None]:
    def each(number: int) -> None:
        if number == at:
            raise error

    return each


def test_ticks_come_at_fixed_deadlines_however_long_each_takes(clock: Clock, run: RunLoop) -> None:
    started = clock.now
    monitor = Watched(clock.monotonic_ns)

    def takes_a_while(number: int) -> None:
        clock.now += (7 * number % 50) * MS + 333_333

    run([monitor], [Written(takes_a_while)], count=20)
    late = [at - started - INTERVAL * number for number, at in enumerate(monitor.at, start=1)]
    # poll() counts in ms, so a deadline is met up to 1 ms late, and never earlier
    assert [lateness for lateness in late if not 0 <= lateness < MS] == []


def test_missed_ticks_are_skipped_and_not_made_up_for(clock: Clock, run: RunLoop) -> None:
    started = clock.now
    monitor = Watched(clock.monotonic_ns)

    def stalls_once(number: int) -> None:
        clock.now += 3 * INTERVAL + 50 * MS if number == 2 else 0

    run([monitor], [Written(stalls_once)], count=5)
    assert [(at - started) // INTERVAL for at in monitor.at] == [1, 2, 6, 7, 8]


def test_a_monitor_that_is_slow_to_read_stretches_no_others_interval(clock: Clock, run: RunLoop) -> None:
    started = clock.now
    slow, fast = Watched(clock.monotonic_ns), Watched(clock.monotonic_ns)
    durations = iter([10, 80, 0, 90, 50])
    read = slow._snapshot

    def read_slowly() -> FlowSnapshot:
        clock.now += next(durations) * MS
        return read()

    slow._snapshot = read_slowly  # type: ignore[method-assign]
    run([slow, fast], [Written()], count=5)
    assert [(at - started) // MS for at in fast.flips] == [100, 200, 300, 400, 500]
    assert fast.flips == slow.flips


def test_every_snapshot_is_taken_before_the_first_is_written(clock: Clock, run: RunLoop) -> None:
    first, second = Watched(clock.monotonic_ns), Watched(clock.monotonic_ns)
    sink = Written(lambda number: setattr(clock, "now", clock.now + 30 * MS))
    run([first, second], [sink], count=2)
    assert first.at == second.at


def test_a_monitor_without_a_snapshot_in_this_tick_costs_the_others_nothing(
    clock: Clock, run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, other, sink = Watched(), Watched(), Written()
    monkeypatch.setattr(late, "tick", lambda: None)
    run([late, other], [sink], count=3)
    assert len(sink.snapshots) == 2 + 2
    assert sink.totals[0].intervals == 3


def test_waiting_for_a_deadline_does_not_spin(clock: Clock, run: RunLoop) -> None:
    run([Watched()], [Written()], count=10)
    assert len(clock.waits) == 10


def test_last_fraction_of_a_millisecond_is_waited_for_once(clock: Clock, run: RunLoop) -> None:
    run([Watched()], [Written(lambda number: setattr(clock, "now", clock.now + 1))], count=5)
    assert len(clock.waits) == 5


def test_count_ends_the_run_and_the_last_tick_detaches(clock: Clock, run: RunLoop) -> None:
    monitor, sink = Watched(), Written()
    run([monitor], [sink], count=3)
    assert monitor.asked == ["tick", "tick", "finish"]
    assert len(sink.snapshots) == 3
    assert len(sink.totals) == 1


def test_count_of_one_is_one_whole_interval(clock: Clock, run: RunLoop) -> None:
    started = clock.now
    monitor = Watched(clock.monotonic_ns)
    run([monitor], [Written()], count=1)
    assert monitor.asked == ["finish"]
    assert monitor.at[0] - started >= INTERVAL


def test_request_to_stop_ends_with_a_last_snapshot_at_once(run: RunLoop, stop: Stop) -> None:
    monitor, sink = Watched(), Written()
    stop.request()
    run([monitor], [sink], interval=HOUR)
    assert monitor.asked == ["finish"]
    assert (len(sink.snapshots), len(sink.totals)) == (1, 1)


def test_request_to_stop_during_a_tick_ends_after_one_more_snapshot(run: RunLoop, stop: Stop) -> None:
    monitor = Watched()
    sink = Written(lambda number: stop.request())
    run([monitor], [sink], interval=MS)
    assert monitor.asked == ["tick", "finish"]
    assert len(sink.totals) == 1


def test_request_to_stop_wakes_a_wait_that_has_just_begun(
    woken: None, run: RunLoop, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(100))

    def monotonic_ns() -> int:
        if next(readings) == 1:  # the flag has been looked at, poll() comes next
            stop.request()
        return 0

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic_ns=monotonic_ns))
    run([Watched()], [Written()], interval=MINUTE)


def test_wakeup_without_a_request_does_not_end_the_wait_early(clock: Clock, run: RunLoop, stop: Stop) -> None:
    clock.longest_wait, clock.events = 30 * MS, [(stop.fileno(), select.POLLIN)]
    started = clock.now
    monitor = Watched(clock.monotonic_ns)
    run([monitor], [Written()], count=1)
    assert monitor.at[0] - started >= INTERVAL
    assert len(clock.waits) == 4


def test_reader_that_goes_while_the_loop_waits_ends_it_quietly(run: RunLoop, pipe: Pipe) -> None:
    monitor, sink = Watched(), Written(raising(OutputClosed("closed"), at=1))
    pipe.close_reader()
    run([monitor], [sink], interval=HOUR)
    assert monitor.asked == ["finish"]
    assert sink.totals == []


def test_reader_that_goes_during_a_tick_ends_it_quietly(clock: Clock, run: RunLoop) -> None:
    monitor = Watched()
    sink = Written(raising(OutputClosed("closed"), at=2))
    run([monitor], [sink])
    assert monitor.asked == ["tick", "tick"]
    assert sink.totals == []


def test_reader_that_goes_before_the_end_record_ends_it_quietly(
    clock: Clock, run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Written()

    def gone(totals: Totals) -> None:
        raise OutputClosed("closed")

    monkeypatch.setattr(sink, "end", gone)
    run([Watched()], [sink], count=1)
    assert len(sink.snapshots) == 1


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_peer_of_a_socket_that_goes_ends_the_loop_as_a_pipes_reader_does(
    connection: tuple[socket.socket, socket.socket], stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = connection
    far.close()
    clock = Clock()

    def spins() -> int:
        clock.now += MS
        return clock.now

    monkeypatch.setattr(clock, "monotonic_ns", spins)
    monkeypatch.setattr(loop_module, "time", clock)
    started = clock.now
    Loop([Watched()], [Written()], stop, OutputStream(near.fileno(), stop), INTERVAL, NO_SERVICE).run(count=1)
    assert clock.now - started < INTERVAL, "poll() returned at once again and again until the deadline"


def test_error_of_a_sink_reaches_the_caller(clock: Clock, run: RunLoop) -> None:
    with pytest.raises(XtraceError, match="disk full"):
        run([Watched()], [Written(raising(XtraceError("disk full"), at=2))])


def test_run_ends_with_its_totals_when_no_monitor_has_anything_left(clock: Clock, run: RunLoop) -> None:
    monitor, sink = Watched(ends_at=2), Written()
    run([monitor], [sink])
    assert monitor.asked == ["tick", "tick"]
    assert (len(sink.snapshots), len(sink.totals)) == (2, 1)


def test_monitor_that_ended_is_not_asked_again_while_others_go_on(clock: Clock, run: RunLoop) -> None:
    short, long = Watched(ends_at=1), Watched()
    sink = Written()
    run([short, long], [sink], count=3)
    assert short.asked == ["tick"]
    assert long.asked == ["tick", "tick", "finish"]
    assert len(sink.snapshots) == 4


def test_change_wakes_the_loop_and_the_monitor_reacts_long_before_the_deadline(
    woken: None, run: RunLoop, stop: Stop, pipe: Pipe
) -> None:
    reader, writer = os.pipe()
    monitor, sink = Watched(fd=reader), Written()

    def take_note() -> None:
        os.read(reader, 1)
        stop.request()

    monitor.reacts = take_note
    os.write(writer, b"x")
    run([monitor], [sink], count=1, interval=MINUTE)
    os.close(reader)
    os.close(writer)
    assert monitor.asked == ["react", "finish"]


def test_key_wakes_the_loop_long_before_the_deadline(woken: None, stop: Stop, stream: OutputStream) -> None:
    reader, writer = os.pipe()
    keyboard, monitor = Watched(fd=reader), Watched()

    def press() -> None:
        os.read(reader, 1)
        stop.request()

    keyboard.reacts = press
    os.write(writer, b"q")
    Loop([monitor], [Written()], stop, stream, MINUTE, NO_SERVICE, keyboard).run()
    os.close(reader)
    os.close(writer)
    assert (keyboard.asked, monitor.asked) == (["react"], ["finish"])


def test_only_the_monitor_whose_descriptor_is_readable_reacts_and_the_tick_comes_at_its_time(
    clock: Clock, run: RunLoop
) -> None:
    quiet, busy = Watched(clock.monotonic_ns, fd=501), Watched(clock.monotonic_ns, fd=502)
    clock.longest_wait, clock.events = 30 * MS, [(502, select.POLLIN)]
    started = clock.now
    run([quiet, busy], [Written()], count=1)
    assert (clock.registered[501], clock.registered[502]) == (select.POLLIN, select.POLLIN)
    assert quiet.asked == ["finish"]
    assert busy.asked == ["react"] * 4 + ["finish"]
    assert [at - started >= INTERVAL for at in (*quiet.at, *busy.at)] == [True, True]


def test_error_at_a_monitors_descriptor_is_the_monitors_business_and_not_a_reader_that_left(
    clock: Clock, run: RunLoop
) -> None:
    monitor, sink = Watched(fd=501), Written()
    clock.events = [(501, select.POLLERR)]
    clock.longest_wait = 60 * MS
    run([monitor], [sink], count=1)
    assert monitor.asked == ["react", "react", "finish"]
    assert len(sink.totals) == 1


def test_every_sink_gets_every_snapshot(clock: Clock, run: RunLoop) -> None:
    sinks = [Written(), Written()]
    run([Watched(), Watched()], sinks, count=2)
    assert len(sinks[0].snapshots) == 4
    assert sinks[0].snapshots == sinks[1].snapshots
    assert [len(sink.totals) for sink in sinks] == [1, 1]


def test_totals_are_those_of_all_intervals(clock: Clock, run: RunLoop) -> None:
    sink = Written()
    run([Watched()], [sink], count=3)
    (totals,) = sink.totals
    assert totals.intervals == 3
    sums = totals.by_mode["xdp"]
    assert sums.unattributed == {("eth0", "ingress"): PacketCount(3, 180)}
    assert sums.filtered == {("eth0", "ingress"): PacketCount(6, 360)}
    assert sums.total == {("eth0", "ingress"): PacketCount((1 + 2 + 3) + 3 + 6, 600 + 180 + 360)}


def test_nothing_to_monitor_ends_at_once(clock: Clock, run: RunLoop) -> None:
    started, sink = clock.now, Written()
    run([], [sink])
    assert clock.now == started
    assert [totals.intervals for totals in sink.totals] == [0]


def test_output_to_a_file_is_not_taken_for_a_reader_that_left(stop: Stop, tmp_path: Path) -> None:
    monitor = Watched()
    with (tmp_path / "output").open("wb") as file:
        Loop([monitor], [Written()], stop, OutputStream(file.fileno(), stop), MS, NO_SERVICE).run(count=2)
    assert monitor.asked == ["tick", "finish"]


def test_sink_whose_reader_left_does_not_keep_the_others_from_the_end(clock: Clock, run: RunLoop) -> None:
    monitor = Watched()
    leaves, stays = Written(raising(OutputClosed("closed"), at=2)), Written()
    run([monitor], [stays, leaves])
    assert monitor.asked == ["tick", "tick", "finish"]
    assert (len(leaves.snapshots), len(stays.snapshots)) == (2, 3)
    assert (len(leaves.totals), len(stays.totals)) == (0, 1)


def test_last_snapshot_of_a_monitor_that_failed_fails_the_run_after_it_was_written(clock: Clock, run: RunLoop) -> None:
    class Failed(Watched):
        def _snapshot(self) -> FlowSnapshot:
            absent = Unattached("eth0", Absence.DETACHED, "the program was detached by someone else")
            return replace(super()._snapshot(), unattached=(absent,))

    sink = Written()
    with pytest.raises(XtraceError, match=r"^no interface is monitored any more: eth0: the program was detached"):
        run([Failed()], [sink], 3)
    assert (len(sink.snapshots), len(sink.totals)) == (3, 1)


def test_sink_that_fails_ends_the_run_after_the_others_have_everything(clock: Clock, run: RunLoop) -> None:
    first, second = Watched(), Watched()
    stays, fails = Written(), Written(raising(XtraceError("disk full"), at=1))
    with pytest.raises(XtraceError, match="disk full"):
        run([first, second], [fails, stays])
    assert (first.asked, second.asked) == (["tick", "finish"], ["tick", "finish"])
    assert len(stays.snapshots) == 4


def test_every_tick_is_flushed_once_after_all_its_snapshots(
    clock: Clock, run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, flushed = Written(), []
    monkeypatch.setattr(sink, "flush", lambda: flushed.append(len(sink.snapshots)))
    run([Watched(), Watched()], [sink], count=3)
    assert flushed == [2, 4, 6]


class Watchdog(Service):
    """A manager that wants a sign of life every 40 ms; when it had them."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "80000"})
        self.said: list[str] = []

    def say(self, state: str, *, waits: bool = False) -> None:
        self.said.append(state)


def test_signs_of_life_come_between_ticks_and_move_none(clock: Clock, run: RunLoop) -> None:
    started = clock.now
    monitor = Watched(clock.monotonic_ns)
    service = Watchdog()
    run([monitor], [Written()], count=4, service=service)
    service.close()
    assert service.said == ["WATCHDOG=1"] * 11, "at 0, 40, 80 ... 400 ms"
    assert [(at - started) // MS for at in monitor.at] == [100, 200, 300, 400]


def test_signs_of_life_come_if_no_tick_is_in_time(clock: Clock, run: RunLoop) -> None:
    def is_late(number: int) -> None:
        clock.now += INTERVAL

    service = Watchdog()
    run([Watched(clock.monotonic_ns)], [Written(is_late)], count=5, service=service)
    service.close()
    assert len(service.said) >= 5
