"""Connections followed by their packets: what grew, which side is which, and when they are over."""

from __future__ import annotations

import struct

import pytest

from tests.unit.make_paths import HIGH, LOW, key, mapped, value, way
from xtrace.kernel.syscall import lib
from xtrace.model.flow import signed
from xtrace.model.tcp_path import COUNTERS, NOTHING_KNOWN, Missed, RawPath, changed, grown
from xtrace.model.words import Direction


def raw(packed: bytes) -> RawPath:
    return RawPath.unpack(b"x" * 3 + packed, 3)


def test_nothing_happens_on_a_connection_that_is_as_before() -> None:
    now = raw(value(way(packets=3)))
    path, known = changed(key(), now, NOTHING_KNOWN, 0)
    assert path is not None and path.forward is not None
    assert path.forward.packets == 3
    assert path.reverse is None
    assert changed(key(), now, known, 5) == (None, known)


@pytest.mark.parametrize("opener", [0, lib.TCP_OPENER_LOW, lib.TCP_OPENER_HIGH])
def test_side_that_opened_is_first(opener: int) -> None:
    packed = value(way(packets=3), way(packets=5, hook=2), opener=opener, slot=4)
    path, _ = changed(key(vlan_id=9), raw(packed), NOTHING_KNOWN, 0)
    assert path is not None and path.forward is not None and path.reverse is not None
    low, high = (mapped(LOW), 40000, 3, Direction.INGRESS), (mapped(HIGH), 443, 5, Direction.EGRESS)
    found = [
        (path.src, path.src_port, path.forward.packets, path.forward.direction),
        (path.dst, path.dst_port, path.reverse.packets, path.reverse.direction),
    ]
    assert found == ([high, low] if opener == lib.TCP_OPENER_HIGH else [low, high])
    assert path.is_opener_known == bool(opener)
    assert (path.slot, path.vlan_id) == (4, 9)


def test_counters_of_32_bits_begin_anew_and_others_do_not() -> None:
    before = (1 << 32) - 1
    now = raw(value(way(gaps=2, packets=before + 3)))
    _, known = changed(key(), raw(value(way(gaps=before, packets=before))), NOTHING_KNOWN, 0)
    path, _ = changed(key(), now, known, 0)
    assert path is not None and path.forward is not None
    assert (path.forward.gaps, path.forward.packets) == (3, 3)
    assert len(grown(now.low.counters, now.low.counters)) == len(COUNTERS)


def test_round_trips_and_connections_are_told() -> None:
    head = {"server_ns": 20, "client_ns": 0, "opened": 3, "refused": 2, "unanswered": 1}
    path, known = changed(key(), raw(value(way(), head=head)), NOTHING_KNOWN, 0)
    assert path is not None
    assert (path.server_ns, path.client_ns, path.opened, path.refused, path.unanswered) == (20, None, 3, 2, 1)
    path, _ = changed(key(), raw(value(way(), head={**head, "opened": 4})), known, 0)
    assert path is not None
    assert (path.opened, path.refused) == (1, 0)


def test_window_that_is_still_closed_has_been_so_until_now() -> None:
    packed = value(way(flags=lib.TCP_WAY_CLOSED, closed_ticks=5, closed_since=100))
    path, known = changed(key(), raw(packed), NOTHING_KNOWN, 110)
    assert path is not None and path.forward is not None
    assert (path.forward.closed_ticks, path.forward.is_closed) == (15, True)
    path, known = changed(key(), raw(packed), known, 117)
    assert path is not None and path.forward is not None
    assert path.forward.closed_ticks == 7
    # it opened 3 ticks later
    path, _ = changed(key(), raw(value(way(closed_ticks=25, closed_since=100))), known, 500)
    assert path is not None and path.forward is not None
    assert (path.forward.closed_ticks, path.forward.is_closed) == (3, False)


def test_closed_time_never_falls() -> None:
    """The packet that opens a window may have read its tick before the reading did."""
    start = (1 << 32) - 6
    closed = value(way(flags=lib.TCP_WAY_CLOSED, closed_ticks=5, closed_since=start))
    _, known = changed(key(), raw(closed), NOTHING_KNOWN, 4)
    assert changed(key(), raw(value(way(closed_ticks=14))), known, 5) == (None, known)
    path, _ = changed(key(), raw(value(way(closed_ticks=17))), known, 9)
    assert path is not None and path.forward is not None
    assert path.forward.closed_ticks == 2, "15 were told of"


def test_what_is_known_of_a_connection_is_small() -> None:
    """There is one of it for each that there is room for."""
    assert len(NOTHING_KNOWN) <= 256


def test_window_closed_after_the_clock_was_read_is_closed_for_no_time() -> None:
    closed = way(flags=lib.TCP_WAY_CLOSED, closed_since=(1 << 32) - 1)
    for tick, expected in (((1 << 32) - 3, 0), (2, 3)):
        path, _ = changed(key(), raw(value(closed)), NOTHING_KNOWN, tick)
        assert (path.forward.closed_ticks if path and path.forward else 0) == expected


@pytest.mark.parametrize(
    "low, high, reset, ended",
    [
        (0, 0, False, False),
        (0, 0, True, True),
        (lib.TCP_WAY_HAS_FIN, 0, False, False),
        (0, lib.TCP_WAY_HAS_FIN, False, False),
        (lib.TCP_WAY_HAS_FIN, lib.TCP_WAY_HAS_FIN, False, True),
    ],
)
def test_connection_ends_by_a_reset_or_by_both_sides(low: int, high: int, reset: bool, ended: bool) -> None:
    assert raw(value(way(flags=low), way(flags=high), has_ended=reset)).has_ended is ended


def test_differences_may_be_negative() -> None:
    assert [signed(number) for number in (0, 5, -5, (1 << 32) - 5, (1 << 31) - 1)] == [0, 5, -5, -5, (1 << 31) - 1]


def test_what_is_of_no_connection_is_summed_over_cpus() -> None:
    assert Missed.of(struct.pack("=8Q", 1, 2, 3, 4, 10, 20, 30, 40)) == Missed(11, 22, 33, 44)
    assert Missed(11, 22, 33, 44) - Missed(1, 2, 3, 4) == Missed(10, 20, 30, 40)
    assert Missed(1, 2, 3, 4) + Missed(10, 20, 30, 40) == Missed(11, 22, 33, 44)
