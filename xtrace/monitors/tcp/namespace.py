"""One network namespace whose TCP sockets are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from xtrace.errors import KernelError
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.network_namespaces import TcpCounters
from xtrace.kernel.sock_diag import NETLINK_SOCK_DIAG
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import COUNTERS, Connection, Failure, NamespaceSums, Reason
from xtrace.model.tcp_health import reason_of
from xtrace.monitors.tcp.ends import End
from xtrace.monitors.tcp.sockets import Changes, Sockets

MOST_FAILURES = 1000
"""Kinds of failures in an interval, by remote address and reason; the rest is counted as one without an address."""

NOWHERE = bytes(16)


@dataclass(frozen=True)
class Read:
    """RetransSegs before and after a reading of the sockets."""

    before: int
    after: int


class WatchedNamespace:
    """Holds what is open in the namespace in which it is created."""

    def __init__(self, netns: int, name: str = "") -> None:
        """Raises KernelError."""
        self.netns = netns
        self.name = name
        self.sockets = Sockets()
        self._last: Read | None = None
        self._begun: int | None = None
        self._error = ""
        with ExitStack() as opening:
            self._netlink = opening.enter_context(NetlinkSocket(NETLINK_SOCK_DIAG))
            self._counters = opening.enter_context(closing(TcpCounters()))
            self._owned = opening.pop_all()

    def dump(self) -> None:
        """Read all sockets, and RetransSegs before that."""
        self._error = ""
        try:
            self._begun = self._counters.retrans_segs()
            self.sockets.dump(self._netlink)
        except KernelError as error:
            self._error = str(error)

    def changes(self, ends: Sequence[End], lost: int | None) -> tuple[NamespaceSums, list[Connection]]:
        """What is new since the reading before. `ends` were read after dump(); `lost`: more that could not be."""
        if self._error:
            self._last = None
            return NamespaceSums(self.netns, self.name, lost_ends=lost, errors=(self._error,)), []
        found = self.sockets.changes(ends, sees_ends=lost is not None)
        return self._sums(found, lost), found.connections

    def _sums(self, found: Changes, lost: int | None) -> NamespaceSums:
        read = Read(self._begun or 0, self._counters.retrans_segs())
        last, self._last = self._last, read
        growths = (connection.growth for connection in found.connections)
        sums = tuple(sum(filter(None, column)) for column in zip(*growths, strict=True)) or (0,) * COUNTERS
        rtts = [connection.level(lib.TCP_RTT) for connection in found.connections if not connection.has_ended]
        return NamespaceSums(
            self.netns,
            self.name,
            connections=found.alive,
            began=found.began,
            ended=found.ended,
            sums=sums if last else (),
            retrans_segs=read.after - last.after if last else None,
            while_reading=read.after - read.before + (last.after - last.before if last else 0),
            lost_ends=lost,
            failures=failures(found.connections),
            rtts=tuple(sorted(rtt for rtt in rtts if rtt is not None)),
        )

    def close(self) -> None:
        """Release everything."""
        self._owned.close()


def failures(connections: Sequence[Connection]) -> tuple[Failure, ...]:
    """Connections that ended by an error, or before they were established, by remote address and reason."""
    counts: Counter[tuple[bytes, int, Reason, bool]] = Counter()
    for connection in connections:
        if connection.error is None:
            continue
        sample = connection.sample
        was_established = sample.state != lib.TCP_STATE_SYN_SENT
        # of an established connection the remote port is one of many, if this side is the service
        port = sample.remote_port if not was_established else min(sample.local_port, sample.remote_port)
        where = (sample.remote, port, reason_of(connection.error)[0], was_established)
        if where not in counts and len(counts) >= MOST_FAILURES:
            where = (NOWHERE, 0, where[2], was_established)
        counts[where] += 1
    return tuple(Failure(*where, times) for where, times in counts.most_common())
