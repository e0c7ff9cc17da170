"""One network namespace whose TCP sockets are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from xtrace.errors import KernelError
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.network_namespaces import TcpCounters, entered
from xtrace.kernel.sock_diag import NETLINK_SOCK_DIAG
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import COUNTERS, Connection, Failure, NamespaceSums, Reason
from xtrace.model.tcp_health import reason_of
from xtrace.monitors.tcp.ends import End
from xtrace.monitors.tcp.sockets import Changes, Sockets

MOST_FAILURES = 1000
"""Kinds of failures in an interval, by remote address and reason; the rest is counted as one without an address."""

MOST_WAITING = 65536

NOWHERE = bytes(16)


@dataclass(frozen=True)
class Read:
    """RetransSegs before and after a reading of the sockets."""

    before: int
    after: int


class WatchedNamespace:
    """One namespace from reading to reading.

    What is open in a namespace keeps it alive, and with it the interfaces of a container that is gone. So of any but
    the tool's own nothing is held between readings.
    """

    def __init__(self, netns: int, path: Path | None = None) -> None:
        """`path`: of another namespace than that of the tool. Raises KernelError."""
        self.netns = netns
        self.path = path
        self._sockets = Sockets()
        self._last: Read | None = None
        self._begun = 0
        self._error = ""
        self._waiting: list[End] = []
        """ends read with a dump that failed"""
        self._opened = ExitStack()
        if path is None:
            self._open()

    def dump(self) -> None:
        """Read all sockets, and RetransSegs before that."""
        self._error = ""
        try:
            if self.path is not None:
                with entered(self.path):
                    self._open()
            self._begun = self._counters.retrans_segs()
            self._sockets.dump(self._netlink)
        except KernelError as error:
            self._error = str(error)

    def changes(
        self, ends: Sequence[End], lost: int | None, *, sees_ends: bool
    ) -> tuple[NamespaceSums, list[Connection]]:
        """What is new since the reading before. `ends` were read after dump(); `lost`: more that could not be."""
        try:
            after = 0 if self._error else self._counters.retrans_segs()
        except KernelError as error:
            self._error = str(error)
        if self.path is not None:
            self._opened.close()
        ends = [*self._waiting, *ends]
        if self._error:
            self._last = None
            self._waiting = ends[-MOST_WAITING:]
            return NamespaceSums(self.netns, lost_ends=lost, errors=(self._error,)), []
        self._waiting = []
        found = self._sockets.changes(ends, sees_ends=sees_ends)
        return self._sums(found, Read(self._begun, after), lost), found.connections

    def close(self) -> None:
        """Release everything."""
        self._opened.close()

    def _open(self) -> None:
        self._netlink = self._opened.enter_context(NetlinkSocket(NETLINK_SOCK_DIAG))
        self._counters = self._opened.enter_context(closing(TcpCounters()))

    def _sums(self, found: Changes, read: Read, lost: int | None) -> NamespaceSums:
        last, self._last = self._last, read
        growths = (connection.growth for connection in found.connections)
        sums = tuple(sum(filter(None, column)) for column in zip(*growths, strict=True)) or (0,) * COUNTERS
        rtts = [connection.level(lib.TCP_RTT) for connection in found.connections if not connection.has_ended]
        return NamespaceSums(
            self.netns,
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
