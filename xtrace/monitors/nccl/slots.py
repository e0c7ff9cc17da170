"""Which files are probed when there are more than can be: users take turns, and files that are called go first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from xtrace.monitors.nccl.libraries import Identity

IDLE_NS = 60_000_000_000
"""A file that was not called for so long makes room for one that waits, and then waits as long itself."""


class Standing(NamedTuple):
    """What a file's place depends on."""

    is_probed: bool
    active_ns: int
    """CLOCK_MONOTONIC of its last call, or else since when it is probed; of one that is not, since when it waits:
    in the future where it had its turn"""


def choose(
    candidates: Mapping[int, Collection[Identity]], standings: Mapping[Identity, Standing], most: int, now_ns: int
) -> list[Identity]:
    """At most `most` files, those of the first turn first. `candidates`: by user; one file may be several users'.

    Users take turns. Each brings its probed files that were called of late, the latest first; then those that wait,
    the longest waiting first; then its idle ones.
    """
    orders = [sorted(files, key=lambda file: _place(standings[file], now_ns)) for files in candidates.values()]
    orders.sort(key=lambda order: _place(standings[order[0]], now_ns))
    return _take_turns(orders, most)


def _take_turns(orders: Iterable[list[Identity]], most: int) -> list[Identity]:
    chosen: dict[Identity, None] = {}
    left = [iter(order) for order in orders]
    while left and len(chosen) < most:
        for files in list(left):
            file = next((file for file in files if file not in chosen), None)
            if file is None:
                left.remove(files)
            elif len(chosen) < most:
                chosen[file] = None
    return list(chosen)


def _place(standing: Standing, now_ns: int) -> tuple[int, int]:
    is_late = now_ns - standing.active_ns >= IDLE_NS
    if standing.is_probed:
        return (2 if is_late else 0), -standing.active_ns
    return (3 if standing.active_ns > now_ns else 1), standing.active_ns
