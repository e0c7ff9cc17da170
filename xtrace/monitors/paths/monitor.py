"""--tcp-packets: reads what the program keeps of connections, and forgets those that are over.

Counters of the program only grow, so nothing is lost between two readings; what an interval did is the difference.
Only connections that had a packet since the last reading are looked at one by one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import add

from xtrace.messages import Say
from xtrace.model.flow import TickClock, signed
from xtrace.model.limits import Limits
from xtrace.model.tcp_path import (
    KEY,
    NOTHING_COUNTED,
    NOTHING_KNOWN,
    NOTHING_MISSED,
    VALUE_SIZE,
    Missed,
    PathSetup,
    PathSnapshot,
    PathSums,
    RawPath,
    TcpPath,
    changed,
    way_counters,
)
from xtrace.model.tcp_path_health import judge_path, judge_sums
from xtrace.monitors.paths.follower import TcpFollower
from xtrace.monitors.wall import wall_offset

ENDED_S, IDLE_S, CROWDED_IDLE_S = 10, 300, 30
"""After how long without a packet a connection is forgotten: one that has ended, others, others if room is scarce."""
CROWDED = 0.75
"""Part of the room from which it is scarce."""
SLACK_S = 1
"""By how much a packet's tick may be older than the reading that it comes after."""


class TcpPathMonitor:
    """Yields what happened on the connections since the last reading. Interfaces have slots, no names yet."""

    mode = "tcp_packets"

    def __init__(self, follower: TcpFollower, clock: Callable[[], TickClock], limits: Limits, say: Say) -> None:
        """`clock`: the kernel's tick; `say` reports, once, that frames were not counted."""
        self._follower = follower
        self._clock = clock
        self._limits = limits
        self._say = say
        self._is_reported = False
        self._known: dict[bytes, bytes] = {}
        self._closed: dict[bytes, bytes] = {}
        """values of connections with a closed window, which go on without a packet"""
        self._over: dict[bytes, int] = {}
        """connections that have ended, and the tick of their last packet"""
        self._missed = [NOTHING_MISSED] * len(follower.missed())
        self._tick: int | None = None
        """of the last reading"""
        self._start_ns = time.monotonic_ns()
        self.ended = False

    @property
    def setup(self) -> PathSetup:
        """Memory, and room."""
        return PathSetup(self._follower.memory(), self._follower.most)

    def fileno(self) -> int:
        """Nothing happens between ticks."""
        return -1

    def react(self) -> None:
        """Nothing."""

    def flip(self, last: bool = False) -> None:
        """Nothing: the interval ends with the reading."""

    def tick(self) -> PathSnapshot:
        """Read all connections now."""
        return self._read()

    def finish(self) -> PathSnapshot:
        """Read them for the last time."""
        self.ended = True
        return self._read()

    def close(self) -> None:
        """Nothing: the maps are the flow tables'."""
        self.ended = True

    def _read(self) -> PathSnapshot:
        clock = self._clock()
        paths: list[TcpPath] = []
        idle: list[tuple[bytes, int]] = []
        crowded = len(self._known) > CROWDED * self._follower.most
        longest = (CROWDED_IDLE_S if crowded else IDLE_S) * 1_000_000_000 // clock.tick_ns
        for keys, values, ticks in self._follower.read():
            for place in self._recent(ticks, clock):
                key = bytes(keys[place * KEY.size : (place + 1) * KEY.size])
                paths += self._changes(key, values[place * VALUE_SIZE : (place + 1) * VALUE_SIZE], clock.tick)
            for place, last in enumerate(ticks):
                if signed(clock.tick - last) > longest:
                    idle.append((bytes(keys[place * KEY.size : (place + 1) * KEY.size]), last))
        looked_at = {path.key for path in paths}
        for key, value in [pair for pair in self._closed.items() if pair[0] not in looked_at]:
            paths += self._changes(key, value, clock.tick)
        now = time.monotonic_ns()
        interval_ns, self._start_ns, self._tick = now - self._start_ns, now, clock.tick
        judged = tuple(judge_path(path, interval_ns, clock.tick_ns, self._limits) for path in paths)
        sums = [judge_sums(each, interval_ns, self._limits) for each in _sums(judged)]
        ended = ENDED_S * 1_000_000_000 // clock.tick_ns
        self._forget([*idle, *(pair for pair in self._over.items() if signed(clock.tick - pair[1]) > ended)])
        return PathSnapshot(
            now + wall_offset(), interval_ns, judged, tuple(sums), self._missed_by_slot(), clock.tick_ns
        )

    def _recent(self, ticks: list[int], clock: TickClock) -> list[int]:
        """The places of those that may have had a packet since the last reading."""
        if self._tick is None:
            return list(range(len(ticks)))
        since = self._tick - SLACK_S * 1_000_000_000 // clock.tick_ns
        return [place for place, last in enumerate(ticks) if signed(last - since) >= 0]

    def _changes(self, key: bytes, value: memoryview | bytes, tick: int) -> Iterable[TcpPath]:
        """Yield what happened on a connection, if anything did."""
        raw = RawPath.unpack(value)
        path, self._known[key] = changed(key, raw, self._known.get(key, NOTHING_KNOWN), tick)
        if raw.low.is_closed or raw.high.is_closed:
            self._closed[key] = bytes(value)
        else:
            self._closed.pop(key, None)
        if raw.has_ended:
            self._over[key] = raw.last
        else:
            self._over.pop(key, None)
        return (path,) if path else ()

    def _forget(self, candidates: Iterable[tuple[bytes, int]]) -> None:
        """Forget connections that had no packet since the tick that goes with them."""
        for key, last in candidates:
            self._over.pop(key, None)
            if key in self._known and self._follower.forget(key, last):
                del self._known[key]
                self._closed.pop(key, None)

    def _report(self, uncounted: int) -> None:
        """Say once that frames did not come to the packet program: its totals are too small."""
        if uncounted and not self._is_reported:
            self._is_reported = True
            self._say(f"tcp-packets: {uncounted} frames were not counted: the packet program could not be called")

    def _missed_by_slot(self) -> dict[int, Missed]:
        """What was of no connection since the last reading, of the slots that have any."""
        before, self._missed = self._missed, self._follower.missed()
        grew = [now - then for now, then in zip(self._missed, before, strict=True)]
        self._report(sum(each.uncounted for each in grew))
        both = (grew[2 * slot] + grew[2 * slot + 1] for slot in range(len(grew) // 2))
        return {slot: missed for slot, missed in enumerate(both) if missed != NOTHING_MISSED}


def _sums(paths: Iterable[TcpPath]) -> Iterable[PathSums]:
    """Yield the sums of the interfaces on which anything happened."""
    by_place: defaultdict[tuple[int, int], list[TcpPath]] = defaultdict(list)
    for path in paths:
        by_place[path.place].append(path)
    for place, of_place in by_place.items():
        yield _sums_of(place, of_place)


def _sums_of(place: tuple[int, int], paths: list[TcpPath]) -> PathSums:
    counters = NOTHING_COUNTED
    for path in paths:
        for way in path.ways:
            counters = tuple(map(add, counters, way_counters(way)))
    return PathSums(
        *place,
        connections=len(paths),
        counters=counters,
        opened=sum(path.opened for path in paths),
        refused=sum(path.refused for path in paths),
        server_ns=tuple(sorted(path.server_ns for path in paths if path.is_server_new and path.server_ns is not None)),
        client_ns=tuple(sorted(path.client_ns for path in paths if path.is_client_new and path.client_ns is not None)),
    )
