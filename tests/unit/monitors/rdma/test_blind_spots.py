"""What a hook does not see of an RDMA port: how much is worth a word, and when."""

from __future__ import annotations

import pytest

from tests.unit.make import NS
from tests.unit.make_rdma import MLX5, port, traffic
from xtrace.model.rdma import Seen
from xtrace.model.words import Direction
from xtrace.monitors.rdma.blind_spots import BlindSpots

INGRESS = Direction.INGRESS


@pytest.fixture
def said() -> list[str]:
    return []


def compare(spots: BlindSpots, carried: int, seen: int, intervals: int, seconds: int = 5) -> list[float | None]:
    """The invisible part after each interval, in which the port received so many bytes and the hook saw so many."""
    record = port(standard=traffic(carried, 0, carried // 1000, 0), interval_ns=seconds * NS)
    hook = {("eth0", INGRESS): Seen(seen // 1000, seen)}
    return [
        next((spot.invisible for spot in spots.compare([record], hook) if spot.direction is INGRESS), None)
        for _ in range(intervals)
    ]


@pytest.mark.parametrize("seen, told", [(94_800, True), (95_000, True), (95_100, False), (100_000, False)])
def test_twentieth_that_is_invisible_over_half_a_minute_is_reported_once(
    said: list[str], seen: int, told: bool
) -> None:
    spots = BlindSpots(said.append)
    assert not spots.reported
    found = compare(spots, 100_000, seen, 6)
    assert found[:5] == [None] * 5
    assert found[5] == pytest.approx(1 - seen / 100_000)
    compare(spots, 100_000, seen, 12)
    line = f"5 % of what {MLX5} received is invisible on eth0: offloaded to hardware; -m rdma shows it"
    assert said == ([line] if told else [])
    assert spots.reported is told


def test_hook_that_sees_nothing_of_a_busy_port_is_reported_after_two_intervals(said: list[str]) -> None:
    spots = BlindSpots(said.append)
    assert compare(spots, 100_000, 0, 3) == [None, 1.0, 1.0]
    assert len(said) == 1


def test_port_without_traffic_has_nothing_to_see(said: list[str]) -> None:
    spots = BlindSpots(said.append)
    assert compare(spots, 0, 0, 20) == [None] * 20
    assert compare(spots, 100_000, 0, 2)[-1] == 1.0
    assert compare(spots, 0, 5000, 12)[-1] is None, "the last whole window had no traffic"


def test_packets_are_compared_where_the_driver_counts_no_bytes() -> None:
    record = port(standard={name: reading for name, reading in traffic(4, 4, 100, 100).items() if "packets" in name})
    spots = BlindSpots(lambda line: None)
    for _ in range(6):
        found = spots.compare([record], {("eth0", INGRESS): Seen(25, 10**9)})
    assert [(spot.unit, spot.carried, spot.seen) for spot in found] == [("packets", 600, 150)]
