"""--tcp goes on with what it can read, and says once what it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from errno import EPROTONOSUPPORT
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from tests.unit.make import NS
from tests.unit.make_tcp import connection, packed_sample, sample, sums
from xtrace.errors import KernelError, PrivilegeError
from xtrace.kernel.sock_diag import Samples
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import Connection, NamespaceSums, Sample
from xtrace.model.tcp_limits import LIMITS
from xtrace.model.words import Health
from xtrace.monitors.tcp import monitor, namespace, sockets
from xtrace.monitors.tcp.ends import End
from xtrace.monitors.tcp.monitor import TcpMonitor
from xtrace.monitors.tcp.peers import Monitored

FORBIDDEN = "BPF_PROG_LOAD(tcp_ends): EPERM (Operation not permitted): CAP_BPF missing"


class Counters:
    """RetransSegs that grow by one with each look."""

    looks = 0

    def retrans_segs(self) -> int:
        Counters.looks += 1
        return Counters.looks

    def close(self) -> None:
        """Nothing is open."""


class Nobody:
    """Peers: none, or an error."""

    error: KernelError | None = None
    unfound = 0

    def __init__(self, _: Monitored) -> None:
        pass

    def find(self) -> dict[int, Path]:
        if self.error:
            raise self.error
        return {}

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Iterator[TcpMonitor]:
    def refused(_: float) -> None:
        raise PrivilegeError(FORBIDDEN)

    def no_groups(_: int) -> None:
        raise KernelError("netlink socket(4)", EPROTONOSUPPORT)

    monkeypatch.setattr(monitor, "EndProbe", refused)
    monkeypatch.setattr(monitor, "DestroyedSockets", no_groups)
    monkeypatch.setattr(monitor, "Peers", Nobody)
    monkeypatch.setattr(namespace, "TcpCounters", Counters)
    monkeypatch.setattr(sockets, "dump_tcp", lambda _netlink, _samples: None)
    made = TcpMonitor(5, LIMITS, said.append, Monitored())
    yield made
    made.close()


def test_without_the_program_the_living_are_read_and_the_dead_are_not_known(made: TcpMonitor, said: list[str]) -> None:
    assert said == [f"--tcp: {FORBIDDEN}: what sockets do after the last reading of them is not seen"]
    assert not made.setup.sees_ends
    (sums,) = made.tick().namespaces
    assert (sums.lost_ends, sums.retransmitted, sums.errors) == (None, 0, ())
    # of four looks, two lie between the second ones of each reading; each reading has one between its own
    assert (sums.retrans_segs, sums.while_reading) == (2, 2)


class Told:
    """Ends that sock_diag tells of: one of a socket of this namespace that no dump had."""

    sees_others = False

    def __init__(self, netns: int) -> None:
        self._sample = Sample.unpack(packed_sample(netns=netns, event=lib.TCP_DESTROYED, values=BUSY))

    def drain(self) -> list[End]:
        return [End(0, 0, self._sample)]

    def lost(self) -> None:
        """Nobody knows."""

    def memory(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""


BUSY = {lib.TCP_SEGMENTS_SENT: 5, lib.TCP_SEGMENTS_RECEIVED: 5, lib.TCP_RETRANSMITTED: 2}


def test_without_the_program_sock_diag_tells_of_ends_and_how_many_are_lost_is_not_known(
    made: TcpMonitor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said.clear()
    monkeypatch.setattr(monitor, "DestroyedSockets", Told)
    with closing(TcpMonitor(5, LIMITS, said.append, Monitored())) as other:
        assert [line.partition(";")[0] for line in said] == [
            f"--tcp: {FORBIDDEN}: sock_diag tells of ends of sockets instead, which costs each connection 4 to 7 us"
        ]
        assert other.setup.sees_ends
        (sums,) = other.tick().namespaces
    assert (sums.ended, sums.retransmitted, sums.lost_ends) == (1, 2, None)


class Unfollowing:
    """A program that was attached, but cannot follow the tool's namespace."""

    closed = 0

    def __init__(self, interval_s: float) -> None:
        pass

    def follow(self, netns: int) -> None:
        raise KernelError("BPF_MAP_UPDATE_ELEM", EPROTONOSUPPORT)

    def close(self) -> None:
        type(self).closed += 1


@pytest.mark.usefixtures("made")
def test_a_program_that_cannot_follow_is_not_left_beside_what_is_read_instead(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "EndProbe", Unfollowing)
    monkeypatch.setattr(monitor, "DestroyedSockets", Told)
    monkeypatch.setattr(Unfollowing, "closed", 0)
    with closing(TcpMonitor(5, LIMITS, said.append, Monitored())) as other:
        assert isinstance(other._probe, Told)
        assert Unfollowing.closed == 1


def test_sockets_that_cannot_be_read_are_an_error_and_the_next_reading_has_no_sums(
    made: TcpMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: object, samples: Samples) -> None:
        raise KernelError("sock_diag(TCP, IPv4)", 2)

    with monkeypatch.context() as broken:
        broken.setattr(sockets, "dump_tcp", failing)
        (sums,) = made.tick().namespaces
        assert sums.errors == ("sock_diag(TCP, IPv4): ENOENT (No such file or directory)",)
        assert (sums.retransmitted, sums.retrans_segs) == (None, None)
    (sums,) = made.tick().namespaces
    assert (sums.errors, sums.retransmitted, sums.unseen) == ((), None, None)
    (sums,) = made.finish().namespaces
    assert (sums.retransmitted, sums.retrans_segs) == (0, 2)
    assert made.ended


def test_peers_that_cannot_be_found_are_said_once(
    made: TcpMonitor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said.clear()
    monkeypatch.setattr(Nobody, "error", KernelError("RTM_GETLINK(eth0)", 1))
    made.tick()
    made.tick()
    assert said == ["--tcp: namespaces of peers are not read: RTM_GETLINK(eth0): EPERM (Operation not permitted)"]
    monkeypatch.setattr(Nobody, "error", None)
    monkeypatch.setattr(Nobody, "unfound", 2)
    made.tick()
    made.tick()
    assert len(said) == 2
    assert "CAP_SYS_PTRACE" in said[1]


class Namespace:
    """In place of a network namespace that is read: it has what a test says."""

    found: ClassVar[dict[int, tuple[NamespaceSums, list[Connection]]]] = {}
    given: ClassVar[list[tuple[int, list[Any], int | None]]] = []
    closed: ClassVar[list[int]] = []

    def __init__(self, netns: int, path: Path | None = None) -> None:
        self.netns, self.path = netns, path

    def dump(self) -> None:
        """It is read."""

    def changes(self, ends: list[Any], lost: int | None, *, sees_ends: bool) -> tuple[NamespaceSums, list[Connection]]:
        assert sees_ends
        Namespace.given.append((self.netns, ends, lost))
        return Namespace.found.get(self.netns, (sums(netns=self.netns, failures=()), []))

    def close(self) -> None:
        Namespace.closed.append(self.netns)


class Probe:
    """In place of the program: ends of sockets, and namespaces that it follows."""

    sees_others = True

    def __init__(self, interval_s: float) -> None:
        assert interval_s == 5
        self.ends: list[Any] = []
        self.followed: list[int] = []

    def follow(self, netns: int) -> None:
        self.followed.append(netns)

    def forget(self, netns: int) -> None:
        self.followed.remove(netns)

    def drain(self) -> list[Any]:
        taken, self.ends = self.ends, []
        return taken

    def lost(self) -> int:
        return 3

    def memory(self) -> int:
        return 4096

    def close(self) -> None:
        self.followed.clear()


class Clock:
    """CLOCK_MONOTONIC, which stands still; the wall clock is ahead of it by 1000 s."""

    def __init__(self) -> None:
        self.now = 100 * NS

    def monotonic_ns(self) -> int:
        return self.now


OWN, PEER = 7, 8


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(monitor, "time", made)
    monkeypatch.setattr(monitor, "wall_offset", lambda: 1000 * NS)
    return made


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, said: list[str], clock: Clock) -> Iterator[TcpMonitor]:
    """A monitor of its own namespace, in which everything is played."""
    for name, made in (("EndProbe", Probe), ("Peers", Nobody), ("WatchedNamespace", Namespace)):
        monkeypatch.setattr(monitor, name, made)
    monkeypatch.setattr(monitor, "inode_of", lambda: OWN)
    for name, kept in (("found", {}), ("given", []), ("closed", [])):
        monkeypatch.setattr(Namespace, name, kept)
    opened = TcpMonitor(5, LIMITS, said.append, Monitored())
    yield opened
    opened.close()


def test_an_interval_lasts_from_reading_to_reading(played: TcpMonitor, clock: Clock) -> None:
    for length in (5, 7):
        clock.now += length * NS
        shown = played.tick()
        assert (shown.interval_ns, shown.end_ns) == (length * NS, clock.now + 1000 * NS)
    assert (played.setup.map_memory, played.setup.sees_ends) == (4096, True)
    assert not played.ended
    played.finish()
    assert played.ended


def test_each_namespace_gets_its_own_ends_and_connections_say_whose_they_are(
    played: TcpMonitor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert played._probe is not None
    monkeypatch.setattr(Nobody, "find", lambda _: {PEER: Path("/proc/9/ns/net")})
    probe = cast("Any", played._probe)
    probe.ends = [End(number, 1, sample(netns=netns)) for number, netns in enumerate((OWN, PEER, OWN, 99))]
    sick = connection({lib.TCP_DATA_SENT: 100, lib.TCP_RETRANSMITTED: 30})
    failed = connection(error=111, state=lib.TCP_STATE_SYN_SENT, has_ended=True)
    Namespace.found[OWN] = sums(netns=OWN, failures=()), [sick, failed]
    Namespace.found[PEER] = sums(netns=PEER, failures=(sums().failures[0]._replace(times=60),)), [connection()]
    Namespace.given.clear()
    clock.now += 5 * NS
    shown = played.tick()
    assert probe.followed == [OWN, PEER]
    assert [(netns, [end.at_ns for end in ends], lost) for netns, ends, lost in Namespace.given] == [
        (OWN, [0, 2], 3),
        (PEER, [1], 3),
    ]
    assert [(each.netns, each.is_local, each.health) for each in shown.connections] == [
        (OWN, True, Health.CRITICAL),
        (PEER, False, Health.OK),
    ]
    assert [(each.netns, each.health) for each in shown.namespaces] == [(OWN, Health.OK), (PEER, Health.WARN)]
    monkeypatch.setattr(Nobody, "find", lambda _: {})
    played.tick()
    assert (probe.followed, Namespace.closed) == ([OWN], [PEER])


def test_a_namespace_that_cannot_be_read_is_said_unless_it_is_the_own(
    played: TcpMonitor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nobody, "find", lambda _: {PEER: Path("/proc/9/ns/net")})
    Namespace.found[OWN] = sums(netns=OWN, failures=(), errors=("own",)), []
    played.tick()
    assert said == []
    Namespace.found[PEER] = sums(netns=PEER, failures=(), errors=("setns: EPERM", "more")), []
    played.tick()
    played.tick()
    assert said == ["--tcp: sockets behind a monitored interface are not read: setns: EPERM"]
