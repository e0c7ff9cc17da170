"""One network namespace from reading to reading: its sums, what failed there, what is kept while it cannot be read."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.make import packed
from tests.unit.make_tcp import connection, packed_sample
from xtrace.errors import KernelError
from xtrace.kernel import sock_diag
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.tcp import COUNTERS, Connection, Failure, NamespaceSums, Reason, Sample
from xtrace.monitors.tcp import namespace, sockets
from xtrace.monitors.tcp.ends import End
from xtrace.monitors.tcp.namespace import MOST_FAILURES, NOWHERE, WatchedNamespace, failures

NETNS = 4026531840
AGAIN = lib.TCP_RETRANSMITTED
ELSEWHERE = Path("/proc/7/ns/net")


class Played:
    """A namespace with the sockets and RetransSegs that a test says, and what is open of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dump: Sequence[bytes] = ()
        self.segments: list[int] = []
        self.broken = False
        self.uncounted = False
        self.open: set[str] = set()
        self.within: list[Path] = []
        monkeypatch.setattr(sockets, "dump_tcp", self._dump)
        monkeypatch.setattr(namespace, "TcpCounters", self._counters)
        monkeypatch.setattr(namespace, "NetlinkSocket", self._netlink)
        monkeypatch.setattr(namespace, "entered", self._entered)

    def _dump(self, _: NetlinkSocket, samples: sock_diag.Samples) -> None:
        if self.broken:
            raise KernelError("sock_diag(TCP, IPv4)", errno.EINTR)
        for packed_one in self.dump:
            ffi.memmove(samples._array + len(samples), packed_one, len(packed_one))
            samples._out.count += 1

    def _counters(self) -> Any:
        self.open.add("counters")
        return SimpleNamespace(retrans_segs=self._retrans_segs, close=lambda: self.open.discard("counters"))

    def _retrans_segs(self) -> int:
        if self.uncounted:
            raise KernelError("/proc/net/snmp", errno.EIO)
        return self.segments.pop(0)

    @contextmanager
    def _netlink(self, protocol: int) -> Iterator[None]:
        self.open.add(f"netlink {protocol}")
        yield
        self.open.discard(f"netlink {protocol}")

    @contextmanager
    def _entered(self, path: Path) -> Iterator[None]:
        self.within.append(path)
        yield

    def read(
        self, watched: WatchedNamespace, segments: tuple[int, int], *dump: bytes, ends: Sequence[End] = ()
    ) -> tuple[NamespaceSums, list[Connection]]:
        """One reading, with RetransSegs before and after it."""
        self.segments, self.dump = list(segments), dump
        watched.dump()
        return watched.changes(ends, 0, sees_ends=True)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


@pytest.fixture
def watched(played: Played) -> WatchedNamespace:
    return WatchedNamespace(NETNS)


def again(times: int, cookie: int = 1, rtt: int = 0, **more: Any) -> bytes:
    values = {AGAIN: times, lib.TCP_SEGMENTS_SENT: times, lib.TCP_SEGMENTS_RECEIVED: 1, lib.TCP_RTT: rtt}
    return packed_sample(cookie, values=values, **more)


def end(packed_one: bytes, socket: int = 1) -> End:
    return End(0, socket, Sample.unpack(packed_one))


def died(times: int, cookie: int = 1, rtt: int = 0) -> End:
    return end(again(times, cookie, rtt, event=lib.TCP_DESTROYED, state=lib.TCP_STATE_CLOSE))


def test_sums_are_those_of_all_sockets_since_the_reading_before(played: Played, watched: WatchedNamespace) -> None:
    first, _ = played.read(watched, (100, 101), again(1), again(2, 2), again(9, 3))
    assert (first.netns, first.connections, first.sums, first.retrans_segs) == (NETNS, 3, (), None)
    assert first.while_reading == 1
    second, changed = played.read(
        watched, (110, 113), again(4, rtt=700), again(6, 2, rtt=300), again(5, 4), again(9, 3), ends=[died(11, 5, 900)]
    )
    expected = [0] * COUNTERS
    expected[AGAIN] = expected[lib.TCP_SEGMENTS_SENT] = 3 + 4 + 5 + 11
    expected[lib.TCP_SEGMENTS_RECEIVED] = 2  # of the two that are new
    assert second.sums == tuple(expected)
    assert (second.connections, second.began, second.ended, second.lost_ends) == (4, 2, 1, 0)
    assert second.rtts == (300, 700), "of those that live, and had one measured"
    # RetransSegs from the end of the first reading on, and what of it fell into one of the two
    assert (second.retrans_segs, second.while_reading) == (113 - 101, 1 + 3)
    assert len(changed) == 4


def test_interval_in_which_nothing_happened_has_sums_of_zero(played: Played, watched: WatchedNamespace) -> None:
    played.read(watched, (0, 0), again(1))
    quiet, _ = played.read(watched, (0, 0), again(1))
    assert (quiet.sums, quiet.retransmitted, quiet.retrans_segs) == ((0,) * COUNTERS, 0, 0)


def test_counter_that_a_socket_does_not_tell_is_left_out(played: Played, watched: WatchedNamespace) -> None:
    played.read(watched, (0, 0), again(1), again(1, 2))
    found, _ = played.read(watched, (0, 0), again(3), again(8, 2, unknown=(AGAIN,)))
    assert (found.retransmitted, found.sums[lib.TCP_SEGMENTS_SENT]) == (2, 2 + 7)


def test_ends_of_an_interval_that_could_not_be_read_count_in_the_next_one(
    played: Played, watched: WatchedNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.read(watched, (0, 0), again(1))
    monkeypatch.setattr(namespace, "MOST_WAITING", 2)
    played.broken = True
    ends = [end(again(times, event=lib.TCP_DESTROYED, cookie=times), times) for times in (16, 8, 4)]
    broken, changed = played.read(watched, (0, 0), ends=ends[:1])
    assert broken.errors == ("sock_diag(TCP, IPv4): EINTR (Interrupted system call)",)
    assert (broken.netns, broken.sums, broken.lost_ends, changed) == (NETNS, (), 0, [])
    played.read(watched, (0, 0), ends=ends[1:])
    played.broken = False
    mended, changed = played.read(watched, (5, 5), ends=[died(2, 2)])
    assert (mended.errors, mended.sums, mended.retrans_segs) == ((), (), None)
    assert sorted(one.sample.value(AGAIN) or 0 for one in changed) == [2, 4, 8], "the oldest beyond the limit is lost"
    after, changed = played.read(watched, (7, 7))
    assert (after.retransmitted, after.retrans_segs, changed) == (0, 2, [])


def test_retransmissions_that_cannot_be_counted_after_the_reading_are_an_error(
    played: Played, watched: WatchedNamespace
) -> None:
    played.segments = [1]
    watched.dump()
    played.uncounted = True
    sums, _ = watched.changes([], None, sees_ends=False)
    assert sums.errors == ("/proc/net/snmp: EIO (Input/output error)",)
    assert sums.lost_ends is None


def test_nothing_of_another_namespace_is_held_between_readings(played: Played) -> None:
    watched = WatchedNamespace(NETNS + 1, ELSEWHERE)
    assert not played.open
    played.segments = [1, 1]
    watched.dump()
    assert played.within == [ELSEWHERE]
    assert played.open == {"counters", "netlink 4"}
    watched.changes([], 0, sees_ends=True)
    assert not played.open


def test_own_namespace_is_opened_once_and_closed_at_the_end(played: Played, watched: WatchedNamespace) -> None:
    assert played.open == {"counters", "netlink 4"}  # NETLINK_SOCK_DIAG, linux/netlink.h
    played.read(watched, (0, 0))
    assert played.open
    assert not played.within
    watched.close()
    assert not played.open


REFUSED: dict[str, Any] = {"error": errno.ECONNREFUSED, "state": lib.TCP_STATE_SYN_SENT, "has_ended": True}
RESET: dict[str, Any] = {"error": errno.ECONNRESET, "state": lib.TCP_STATE_ESTABLISHED, "has_ended": True}


def remote(number: int, port: int = 443) -> tuple[str, int]:
    return f"10.1.{number >> 8}.{number & 255}", port


def test_failures_are_counted_by_remote_side_and_reason_the_most_frequent_first() -> None:
    found = failures(
        [
            connection(remote=remote(1, 40000), local=("10.0.0.2", 30000), **REFUSED),
            *(connection(remote=remote(1), **RESET) for _ in range(2)),
            connection(remote=remote(1)),
            *(connection(remote=remote(1), **{**RESET, "error": errno.ETIMEDOUT}) for _ in range(3)),
        ]
    )
    first = packed("10.1.0.1")
    assert found == (
        Failure(first, 443, Reason.TIMED_OUT, True, 3),
        Failure(first, 443, Reason.RESET, True, 2),
        Failure(first, 40000, Reason.REFUSED, False, 1),
    )


@pytest.mark.parametrize("local, distant", [(443, 50000), (50000, 443)])
def test_port_of_an_established_connection_is_that_of_its_service(local: int, distant: int) -> None:
    (failure,) = failures([connection(remote=remote(1, distant), local=("10.0.0.2", local), **RESET)])
    assert failure.port == 443


def test_connections_that_ended_without_an_error_have_not_failed() -> None:
    assert failures([connection(has_ended=True), connection()]) == ()


def test_kinds_of_failures_beyond_the_limit_are_counted_together() -> None:
    most = 1000
    assert most == MOST_FAILURES
    many = [connection(remote=remote(number), **REFUSED) for number in range(most + 3)]
    found = failures([*many, connection(remote=remote(7), **REFUSED), connection(remote=remote(5000), **RESET)])
    assert found[0] == Failure(NOWHERE, 0, Reason.REFUSED, False, 3)
    assert found[1] == Failure(packed("10.1.0.7"), 443, Reason.REFUSED, False, 2)
    assert found[-1] == Failure(NOWHERE, 0, Reason.RESET, True, 1)
    assert len(found) == most + 2
    assert sum(failure.times for failure in found) == most + 5
