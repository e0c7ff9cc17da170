"""Which files are probed when there are more than can be."""

from __future__ import annotations

import pytest

from xtrace.monitors.nccl.libraries import Identity
from xtrace.monitors.nccl.slots import Standing, choose

NOW = 1_000 * 10**9
MINUTE = 60 * 10**9


def file(number: int) -> Identity:
    return Identity(1, number, 1, 1, 1)


def chosen(candidates: dict[int, list[int]], standings: dict[int, Standing], most: int) -> list[int]:
    found = choose(
        {uid: [file(number) for number in numbers] for uid, numbers in candidates.items()},
        {file(number): standing for number, standing in standings.items()},
        most,
        NOW,
    )
    return [identity.inode for identity in found]


def probed(ago_ns: int) -> Standing:
    return Standing(True, NOW - ago_ns)


def waiting(ago_ns: int) -> Standing:
    return Standing(False, NOW - ago_ns)


STANDINGS = {
    1: waiting(-5),  # had its turn
    2: probed(MINUTE),
    3: probed(2 * MINUTE),
    4: waiting(10),
    5: waiting(20),
    6: probed(MINUTE - 1),
    7: probed(0),
}


@pytest.mark.parametrize("most", range(8))
def test_files_called_of_late_go_first_then_those_that_wait_then_idle_ones(most: int) -> None:
    assert chosen({0: list(STANDINGS)}, STANDINGS, most) == [7, 6, 5, 4, 2, 3, 1][:most]


def test_users_take_turns_beginning_with_the_one_whose_best_file_is_best() -> None:
    standings = {1: waiting(10), 2: waiting(10), 3: probed(5), 4: probed(4), 5: waiting(30)}
    assert chosen({1000: [1, 2], 0: [3, 4], 2000: [5]}, standings, 5) == [4, 5, 1, 3, 2]
    assert chosen({1000: [1, 2], 0: [3, 4], 2000: [5]}, standings, 2) == [4, 5]


def test_file_of_two_users_takes_one_place() -> None:
    standings = {number: waiting(100 - number) for number in range(1, 5)}
    assert chosen({0: [1, 2], 1000: [1, 3, 4]}, standings, 4) == [1, 3, 2, 4]


def test_fewer_files_than_places_are_all_probed() -> None:
    assert sorted(chosen({0: list(STANDINGS)}, STANDINGS, 100)) == sorted(STANDINGS)
    assert chosen({}, {}, 5) == []
