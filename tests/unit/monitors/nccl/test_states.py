"""What the kernel's maps say of communicators, calls in progress, sends and receives; with played maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from xtrace.model.nccl import CALL, COMMUNICATOR, COMMUNICATOR_KEY, FRAME, PEER, PEER_KEY, Frame, Mark, PeerCalls
from xtrace.monitors.nccl.calls import CallTables


class PlayedMap:
    """A map of the kernel."""

    def __init__(self, content: dict[bytes, bytes]) -> None:
        self.content = content

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        yield from list(self.content.items())

    def delete(self, key: bytes) -> None:
        del self.content[key]


def state(last_begin_ns: int, *marks: Mark) -> bytes:
    """struct nccl_communicator: rank 3 of 8, every number another."""
    words = (8, 3, 6, 1000, 0xAB, 0xCD, 21, 20, last_begin_ns, 99, 2, 1, 5, 7)
    flat = [word for mark in marks for word in mark]
    return COMMUNICATOR.pack(
        *words, *flat, *(0,) * (len(COMMUNICATOR.unpack(bytes(COMMUNICATOR.size))) - 14 - len(flat))
    )


@pytest.fixture
def maps() -> dict[str, PlayedMap]:
    known = {COMMUNICATOR_KEY.pack(0x10, 7): state(500), COMMUNICATOR_KEY.pack(0x20, 7): state(400)}
    return {
        "communicators": PlayedMap({**known, COMMUNICATOR_KEY.pack(0x10, 8): state(300)}),
        "departed": PlayedMap({COMMUNICATOR_KEY.pack(0x30, 9): state(1, Mark(20, 2, 3, 4, 5, 6))}),
        "running": PlayedMap({}),
        "peers": PlayedMap({}),
    }


@pytest.fixture
def tables(maps: dict[str, PlayedMap]) -> CallTables:
    made = CallTables.__new__(CallTables)
    made._maps = cast("Any", maps)
    return made


def test_communicators_are_known_by_process_and_address(tables: CallTables) -> None:
    found = tables.states()
    assert set(found) == {(7, 0x10), (7, 0x20), (8, 0x10)}
    assert found[7, 0x10][:14] == (8, 3, 6, 1000, 0xAB, 0xCD, 21, 20, 500, 99, 2, 1, 5, 7)
    assert found[7, 0x10].marks == ()
    assert tables.last_begun() == {7: 500, 8: 300}, "of several communicators the last"


def test_those_that_were_ended_are_told_once(tables: CallTables) -> None:
    ((where, departed),) = tables.take_departed().items()
    assert (where, departed.marks) == ((9, 0x30), (Mark(20, 2, 3, 4, 5, 6),))
    assert tables.take_departed() == {}


def test_a_call_in_progress_is_known_by_its_threads_frame(tables: CallTables, maps: dict[str, PlayedMap]) -> None:
    frame = Frame(7 << 32 | 11, 0x7FFF, 2)
    fields = CALL.unpack(bytes(CALL.size))
    numbered = tuple(range(1, 1 + len(fields)))
    maps["running"].content = {FRAME.pack(*frame): CALL.pack(*numbered)}
    ((found, call),) = tables.running().items()
    assert (found, tuple(call)) == (frame, numbered)
    tables.forget_running(frame)
    assert tables.running() == {}


def test_sends_and_receives_are_known_by_communicator_and_rank(tables: CallTables, maps: dict[str, PlayedMap]) -> None:
    counted = {(0x10, 7, 1): (1, 2, 3, 4), (0x10, 7, 2): (5, 6, 7, 8), (0x20, 7, 1): (9, 10, 11, 12)}
    maps["peers"].content = {PEER_KEY.pack(*key): PEER.pack(*calls) for key, calls in counted.items()}
    assert tables.peers() == {
        (7, 0x10): {1: PeerCalls(1, 2, 3, 4), 2: PeerCalls(5, 6, 7, 8)},
        (7, 0x20): {1: PeerCalls(9, 10, 11, 12)},
    }
    tables.forget_peers(7, 0x10, [1, 2])
    assert tables.peers() == {(7, 0x20): {1: PeerCalls(9, 10, 11, 12)}}


def test_an_ended_process_takes_its_communicators_with_it(tables: CallTables) -> None:
    tables.forget_process(7)
    assert set(tables.states()) == {(8, 0x10)}
