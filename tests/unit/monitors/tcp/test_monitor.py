"""--tcp goes on with what it can read, and says once what it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from errno import EPROTONOSUPPORT
from pathlib import Path

import pytest

from tests.unit.make_tcp import packed_sample
from xtrace.errors import KernelError, PrivilegeError
from xtrace.kernel.sock_diag import Samples
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import Sample
from xtrace.model.tcp_limits import LIMITS
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
