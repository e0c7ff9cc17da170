"""From one reading of all sockets to the next: nothing is counted twice, and nothing is missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.make_tcp import packed_sample
from xtrace.kernel import sock_diag
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.tcp import Closer, Connection, Sample
from xtrace.monitors.tcp import sockets
from xtrace.monitors.tcp.ends import End
from xtrace.monitors.tcp.sockets import Changes, Sockets

AGAIN = lib.TCP_RETRANSMITTED
SOCKET = 0xFFFF_8880_0000_1000


class Played:
    """Sockets whose dumps are what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, sees_ends: bool = True) -> None:
        self.sockets = Sockets()
        self.sees_ends = sees_ends
        self.dumps: list[Sequence[bytes]] = []
        monkeypatch.setattr(sockets, "dump_tcp", self._dump)

    def _dump(self, _: NetlinkSocket, samples: sock_diag.Samples) -> None:
        for packed in self.dumps.pop(0):
            ffi.memmove(samples._array + len(samples), packed, len(packed))
            samples._out.count += 1

    def read(self, *dump: bytes, ends: Sequence[End] = ()) -> Changes:
        self.dumps.append(dump)
        self.sockets.dump(None)  # type: ignore[arg-type] # not used by the played dump
        return self.sockets.changes(ends, sees_ends=self.sees_ends)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def again(times: int, cookie: int = 1, **more: Any) -> bytes:
    values = {AGAIN: times, lib.TCP_SEGMENTS_SENT: times + 1, lib.TCP_SEGMENTS_RECEIVED: 1}
    return packed_sample(cookie, values=values, **more)


def end(packed: bytes, socket: int = SOCKET, at_ns: int = 0) -> End:
    return End(at_ns, socket, Sample.unpack(packed))


def died(times: int, cookie: int = 1, **more: Any) -> bytes:
    return again(times, cookie, event=lib.TCP_DESTROYED, state=lib.TCP_STATE_CLOSE, **more)


def closed(times: int, cookie: int = 1, **more: Any) -> bytes:
    return again(times, cookie, event=lib.TCP_CLOSED, **more)


def retransmitted(found: Changes) -> int:
    return sum(connection.growth[AGAIN] or 0 for connection in found.connections)


def only(found: Changes) -> Connection:
    (connection,) = found.connections
    return connection


def test_first_reading_is_what_later_ones_are_compared_with(played: Played) -> None:
    first = played.read(again(100))
    assert (first.alive, first.connections, first.began) == (1, [], 0)
    assert retransmitted(played.read(again(103))) == 3


def test_end_has_the_process_that_closed_it(played: Played) -> None:
    played.read(again(0))
    closer = Closer(4711, "curl")
    assert only(played.read(ends=[end(died(0))._replace(closer=closer)])).closer == closer


def test_socket_on_which_nothing_happened_is_not_among_the_changes(played: Played) -> None:
    played.read(again(5), again(7, 2))
    found = played.read(again(5), again(8, 2))
    assert only(found).sample.cookie == 2
    assert found.alive == 2


def test_socket_that_appears_counts_from_its_birth(played: Played) -> None:
    played.read()
    found = played.read(again(4))
    assert (retransmitted(found), found.began, only(found).is_new) == (4, 1, True)


def test_socket_that_lived_and_died_between_two_readings_counts_wholly(played: Played) -> None:
    played.read()
    found = played.read(ends=[end(died(6, cookie=0))])
    assert (retransmitted(found), found.began, found.ended, only(found).has_ended) == (6, 1, 1, True)


def test_socket_that_died_after_a_reading_counts_what_it_did_since(played: Played) -> None:
    played.read(again(2))
    found = played.read(ends=[end(died(6))])
    assert (retransmitted(found), found.began, found.ended) == (4, 0, 1)
    assert played.read().connections == []


def test_socket_that_dies_during_the_dump_counts_once(played: Played) -> None:
    played.read(again(2))
    found = played.read(again(5), ends=[end(died(6))])
    assert (retransmitted(found), found.alive, len(found.connections)) == (4, 0, 1)
    assert played.read().connections == []


def test_socket_listed_twice_counts_once(played: Played) -> None:
    played.read(again(2), again(2))
    found = played.read(again(5), again(6))
    assert (retransmitted(found), found.alive) == (4, 1)


def test_socket_missing_in_one_dump_counts_from_the_last_one_that_had_it(played: Played) -> None:
    played.read(again(2))
    assert played.read().connections == []
    found = played.read(again(7))
    assert (retransmitted(found), found.began) == (5, 0)


def test_socket_that_closed_long_before_it_is_destroyed_counts_once(played: Played) -> None:
    played.read(again(2))
    first = played.read(ends=[end(closed(5, error=104))])
    assert (retransmitted(first), first.ended, only(first).error) == (3, 1, 104)
    second = played.read(ends=[end(died(5))])
    assert (second.connections, second.ended) == ([], 0)


def test_what_happened_between_closing_and_the_end_counts_then(played: Played) -> None:
    played.read(again(2))
    played.read(ends=[end(closed(5, error=104))])
    found = played.read(ends=[end(died(6))])
    assert (retransmitted(found), found.began, found.ended) == (1, 0, 0)


def test_what_happened_between_closing_and_the_end_in_one_interval_is_of_one_connection(played: Played) -> None:
    played.read(again(2))
    found = played.read(ends=[end(closed(5, error=104), at_ns=1), end(died(6), at_ns=2)])
    assert (retransmitted(found), found.began, found.ended) == (4, 0, 1)
    assert (only(found).error, only(found).sample.state) == (104, lib.TCP_STATE_ESTABLISHED)


def test_socket_that_is_connected_again_is_another_connection(played: Played) -> None:
    played.read()
    played.read(ends=[end(closed(2, cookie=0, error=111, state=lib.TCP_STATE_SYN_SENT))])
    found = played.read(ends=[end(died(3, cookie=0, local=("10.0.0.2", 40001)))])
    assert (found.began, found.ended, only(found).is_new) == (1, 1, True)


def test_connects_that_fail_one_after_the_other_on_one_socket_are_as_many_failures(played: Played) -> None:
    """Alike in all that the kernel counts."""
    played.read()
    tries = [
        closed(2, cookie=0, error=111, state=lib.TCP_STATE_SYN_SENT, local=("10.0.0.2", port))
        for port in (40001, 40002, 40002)
    ]
    found = played.read(ends=[end(packed, at_ns=number) for number, packed in enumerate(tries)])
    assert (retransmitted(found), len(found.connections), found.began, found.ended) == (6, 3, 0, 0)
    assert all(connection.has_failed for connection in found.connections)


def test_socket_that_is_connected_again_has_what_the_second_connection_did(played: Played) -> None:
    played.read()
    second = died(7, cookie=0, local=("10.0.0.2", 40001))
    found = played.read(ends=[end(closed(5, cookie=0), at_ns=1), end(second, at_ns=2)])
    assert ([each.growth[AGAIN] for each in found.connections], found.began, found.ended) == ([5, 7], 2, 2)


def test_socket_that_is_connected_again_from_the_same_port_is_known_by_what_it_forgot(played: Played) -> None:
    played.read()
    found = played.read(ends=[end(closed(5, cookie=0), at_ns=1), end(died(3, cookie=0), at_ns=2)])
    assert ([each.growth[AGAIN] for each in found.connections], found.began, found.ended) == ([5, 3], 2, 2)


def test_failed_connect_counts_its_syns_and_is_no_connection(played: Played) -> None:
    played.read()
    attempt = closed(2, cookie=0, error=110, state=lib.TCP_STATE_SYN_SENT)
    destroyed = died(0, cookie=0, remote=("::", 0))  # disconnected, which clears what it was
    found = played.read(ends=[end(attempt, at_ns=1), end(destroyed, at_ns=2)])
    assert (retransmitted(found), found.began, found.ended) == (2, 0, 0)
    assert only(found).has_failed


def test_connection_that_its_process_takes_off_the_socket_counts_once_and_is_no_failure(played: Played) -> None:
    """close() with a linger time of 0: the kernel forgets what it did before the socket is destroyed."""
    cleared = end(died(0, remote=("::", 0)), at_ns=2)
    played.read(again(2))
    found = played.read(ends=[end(closed(5), at_ns=1), cleared])
    assert (retransmitted(found), found.began, found.ended, only(found).error) == (3, 0, 1, None)
    assert only(found).sample.remote_port == 443
    short = played.read(ends=[end(closed(4, cookie=0), at_ns=1), end(died(0, cookie=0, remote=("::", 0)), at_ns=2)])
    assert (retransmitted(short), short.began, short.ended, only(short).error) == (4, 1, 1, None)


def test_listeners_and_unconnected_sockets_that_end_are_no_connections(played: Played) -> None:
    played.read()
    assert played.read(ends=[end(died(0, cookie=0, remote=("::", 0)))]).connections == []


def test_second_socket_of_a_handshake_that_two_packets_ended_is_no_connection(played: Played) -> None:
    played.read()
    played.read(again(1))
    spare = packed_sample(
        values={AGAIN: 1, lib.TCP_SEGMENTS_RECEIVED: 1}, event=lib.TCP_DESTROYED, state=lib.TCP_STATE_CLOSE
    )
    assert played.read(again(1), ends=[end(spare)]).connections == []
    found = played.read(ends=[end(died(2), socket=SOCKET + 8)])
    assert (retransmitted(found), found.began, found.ended) == (1, 0, 1)


def test_address_of_a_socket_that_is_used_again_is_another_socket(played: Played) -> None:
    played.read()
    ends = [end(died(3, cookie=0), at_ns=1), end(died(4, cookie=0), at_ns=2)]
    found = played.read(ends=ends)
    assert (retransmitted(found), found.ended) == (7, 2)


def test_without_ends_a_socket_that_is_gone_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, sees_ends=False)
    played.read(again(2))
    found = played.read()
    assert (retransmitted(found), found.began, found.ended) == (0, 0, 1)
    assert (only(found).is_new, only(found).has_ended) == (False, True)
    assert played.read().ended == 0


def test_memory_of_missing_sockets_is_bounded(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_MISSING", 2)
    played.read(*(again(1, cookie) for cookie in range(1, 6)))
    played.read()
    assert len(played.sockets._missing) == 2
    played.read(ends=[end(closed(1, 0, error=104), SOCKET + number) for number in range(5)])
    assert len(played.sockets._closed) == 2


def test_failed_dump_changes_nothing(played: Played) -> None:
    played.read(again(2))
    with pytest.raises(IndexError):
        played.sockets.dump(None)  # type: ignore[arg-type] # there is no dump left to play
    assert retransmitted(played.read(again(5))) == 3


def test_every_socket_is_compared_with_itself(played: Played) -> None:
    played.read(again(2), again(20, 2), again(200, 3))
    found = played.read(again(200, 3), again(3), ends=[end(died(25, 2))])
    assert {connection.sample.cookie: connection.growth[AGAIN] for connection in found.connections} == {1: 1, 2: 5}


def test_socket_that_was_missing_longest_is_forgotten_first(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_MISSING", 2)
    first, second, third = (again(5, cookie) for cookie in (1, 2, 3))
    played.read(first, second, third)
    played.read(second, third)
    played.read(again(6, 1), second, third)  # it is back
    played.read(again(6, 1), third)
    played.read(third)
    played.read()
    assert played.read(again(7, 1)).began == 0, "the second one was missing longer"
    assert played.read(again(7, 1), again(9, 2)).began == 1
