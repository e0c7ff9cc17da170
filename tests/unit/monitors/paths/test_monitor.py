"""Readings of followed connections: what is looked at, what is added up, and what is forgotten when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.unit.make_paths import IFINDEX, key, value, way
from xtrace.kernel.syscall import lib
from xtrace.model.flow import TickClock
from xtrace.model.tcp_limits import LIMITS
from xtrace.model.tcp_path import NOTHING_MISSED, Missed, PathSums
from xtrace.monitors.paths.monitor import CROWDED_IDLE_S, ENDED_S, IDLE_S, TcpPathMonitor

HZ = 250


@dataclass
class Played:
    """A follower, and its clock."""

    most: int = 4
    tick: int = 1000
    kept: dict[bytes, bytes] = field(default_factory=dict)
    lost: list[Missed] = field(default_factory=lambda: [NOTHING_MISSED] * 4)
    lasts: dict[bytes, int] = field(default_factory=dict)
    refuses: bool = False
    said: list[str] = field(default_factory=list)

    def clock(self) -> TickClock:
        return TickClock(self.tick, 0, 1_000_000_000 // HZ)

    def keep(self, name: bytes, packed: bytes, last: int) -> None:
        self.kept[name], self.lasts[name] = packed, last

    def read(self) -> Iterator[tuple[memoryview, memoryview, list[int]]]:
        values = memoryview(b"".join(self.kept.values()))
        yield memoryview(b"".join(self.kept)), values, list(self.lasts.values())

    def missed(self) -> list[Missed]:
        return list(self.lost)

    def forget(self, name: bytes, last: int) -> bool:
        if self.refuses:
            return False
        assert self.lasts.pop(name) == last
        del self.kept[name]
        return True

    def memory(self) -> int:
        return 4096


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def monitor(played: Played) -> TcpPathMonitor:
    return TcpPathMonitor(played, played.clock, LIMITS, played.said.append)  # type: ignore[arg-type]


def seconds(number: float) -> int:
    return int(number * HZ)


def test_only_what_had_a_packet_is_yielded_and_counted(played: Played, monitor: TcpPathMonitor) -> None:
    for port in (1, 2):
        played.keep(key(port), value(way(packets=1), last=1000), 1000)
    assert len(monitor.tick().paths) == 2
    played.tick += seconds(5)
    played.keep(key(2), value(way(packets=4), last=played.tick), played.tick)
    snapshot = monitor.tick()
    assert [(path.src_port, path.forward and path.forward.packets) for path in snapshot.paths] == [(2, 3)]
    (sums,) = snapshot.sums
    assert (sums.connections, sums.counted("packets")) == (1, 3)
    played.tick += seconds(5)
    assert monitor.tick().paths == ()


def test_packet_that_was_entered_late_is_not_overlooked(played: Played, monitor: TcpPathMonitor) -> None:
    played.keep(key(), value(way(packets=1), last=1000), 1000)
    monitor.tick()
    played.keep(key(), value(way(packets=2), last=998), 998)
    assert len(monitor.tick().paths) == 1


def test_first_reading_has_what_came_long_before(played: Played, monitor: TcpPathMonitor) -> None:
    played.keep(key(), value(way(packets=1), last=played.tick), played.tick)
    played.tick += seconds(5)
    assert len(monitor.tick().paths) == 1


def test_closed_window_goes_on_without_packets(played: Played, monitor: TcpPathMonitor) -> None:
    closed = way(packets=1, flags=lib.TCP_WAY_CLOSED, closed_since=1000)
    played.keep(key(), value(closed, last=1000), 1000)
    monitor.tick()
    for _ in range(2):
        played.tick += seconds(5)
        (path,) = monitor.tick().paths
        assert path.forward is not None
        assert (path.forward.packets, path.forward.closed_ticks) == (0, seconds(5))
    played.keep(key(), value(way(packets=2, closed_ticks=seconds(10)), last=played.tick), played.tick)
    (path,) = monitor.tick().paths
    assert path.forward is not None
    assert (path.forward.packets, path.forward.closed_ticks) == (1, 0)
    played.tick += seconds(5)
    assert monitor.tick().paths == ()


@pytest.mark.parametrize("has_ended, after_s", [(True, ENDED_S), (False, IDLE_S)])
def test_connection_is_forgotten_some_time_after_its_last_packet(
    has_ended: bool, after_s: int, played: Played, monitor: TcpPathMonitor
) -> None:
    played.keep(key(), value(way(packets=1), last=1000, has_ended=has_ended), 1000)
    monitor.tick()
    played.tick = 1000 + seconds(after_s)
    assert monitor.tick().sums == ()
    assert played.kept
    played.tick += 1
    monitor.tick()
    assert not played.kept
    played.keep(key(), value(way(packets=7), last=played.tick), played.tick)
    (path,) = monitor.tick().paths
    assert path.forward is not None and path.forward.packets == 7, "it begins anew"


def test_idle_ones_are_forgotten_sooner_if_room_is_scarce(played: Played, monitor: TcpPathMonitor) -> None:
    for port in range(4):
        played.keep(key(port), value(way(packets=1), last=1000), 1000)
    monitor.tick()
    played.tick = 1001 + seconds(CROWDED_IDLE_S)
    monitor.tick()
    assert not played.kept


def test_connection_that_gets_a_packet_meanwhile_stays(played: Played, monitor: TcpPathMonitor) -> None:
    played.keep(key(), value(way(packets=1), last=1000, has_ended=True), 1000)
    monitor.tick()
    played.tick += seconds(2 * ENDED_S)
    played.refuses = True
    monitor.tick()
    played.refuses = False
    played.keep(key(), value(way(packets=2), last=played.tick, has_ended=True), played.tick)
    assert [path.forward and path.forward.packets for path in monitor.tick().paths] == [1]


def test_sums_are_of_each_interface_and_what_is_of_no_connection_of_each_slot(
    played: Played, monitor: TcpPathMonitor
) -> None:
    head = {"opened": 2, "refused": 1, "server_ns": 20, "client_ns": 10}
    played.keep(key(1), value(way(packets=1, resets=2), way(packets=5), last=1000, head=head), 1000)
    played.keep(key(2), value(way(packets=7), last=1000, slot=1), 1000)
    played.lost = [Missed(1, 2, 3), Missed(10, 20, 30), NOTHING_MISSED, Missed(no_room=4)]
    taken = monitor.tick()
    first, second = taken.sums
    assert isinstance(first, PathSums)
    assert (first.place, first.counted("packets"), first.counted("resets")) == ((0, IFINDEX), 6, 2)
    assert (first.opened, first.refused, first.server_ns, first.client_ns) == (2, 1, (20,), (10,))
    assert (second.place, second.counted("packets")) == ((1, IFINDEX), 7)
    assert taken.missed == {0: Missed(11, 22, 33), 1: Missed(no_room=4)}
    played.lost[0] = Missed(2, 2, 3)
    played.tick += seconds(5)
    taken = monitor.tick()
    assert (taken.sums, taken.missed) == ((), {0: Missed(no_room=1)})


def test_round_trips_are_of_the_interval_in_which_they_became_known(played: Played, monitor: TcpPathMonitor) -> None:
    """However slow the handshake is, and of a second connection of the same ports, too."""
    found = []
    steps = [(1, 0, 0), (1, 20, 0), (1, 20, 10), (1, 20, 10), (2, 0, 0), (2, 20, 0), (3, 20, 10)]
    for number, (opened, server_ns, client_ns) in enumerate(steps, 1):
        head = {"opened": opened, "server_ns": server_ns, "client_ns": client_ns}
        played.keep(key(), value(way(packets=number), last=played.tick, head=head), played.tick)
        (sums,) = monitor.tick().sums
        found.append((sums.server_ns, sums.client_ns))
        played.tick += seconds(1)
    assert found == [((), ()), ((20,), ()), ((), (10,)), ((), ()), ((), ()), ((20,), ()), ((20,), (10,))]


def test_frames_that_were_not_counted_are_said_once(played: Played, monitor: TcpPathMonitor) -> None:
    monitor.tick()
    assert played.said == []
    for uncounted in (3, 5):
        played.lost[1] = Missed(uncounted=uncounted)
        monitor.tick()
    assert played.said == ["tcp-packets: 3 frames were not counted: the packet program could not be called"]


def test_it_says_how_much_room_there_is(monitor: TcpPathMonitor) -> None:
    assert (monitor.setup.most, monitor.setup.map_memory) == (4, 4096)
    assert not monitor.ended
    monitor.finish()
    assert monitor.ended
