"""The health of TCP connections (--tcp): dumps of the living, a record of the dead, sums against the kernel's own.

An interval ends with its reading. In each namespace, in this order: RetransSegs, the dump, the ends, RetransSegs.
A socket that ends during the dump is among the ends, and what the dump has of it does not count.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import replace

from xtrace.errors import XtraceError
from xtrace.kernel.network_namespaces import inode_of
from xtrace.messages import Say
from xtrace.model.limits import Limits
from xtrace.model.tcp import Connection, NamespaceSums, TcpSetup, TcpSnapshot
from xtrace.model.tcp_health import judge, judge_failures
from xtrace.monitors.tcp.ends import End, EndProbe
from xtrace.monitors.tcp.namespace import WatchedNamespace


class TcpMonitor:
    """Reads the sockets of the tool's network namespace from its creation on."""

    mode = "tcp"

    def __init__(self, interval_s: float, limits: Limits, say: Say) -> None:
        """What cannot be read is said once; the rest goes on."""
        self._limits = limits
        self.ended = False
        self._probe: EndProbe | None = None
        with ExitStack() as opening:
            own = opening.enter_context(closing(WatchedNamespace(inode_of())))
            self._namespaces = {own.netns: own}
            try:
                self._probe = opening.enter_context(closing(EndProbe(interval_s)))
                self._probe.follow(self._namespaces)
            except XtraceError as error:
                say(f"--tcp: {error}: what sockets do after the last reading of them is not seen")
            self._start_ns = time.monotonic_ns()
            self._read()  # later ones are compared with it
            self._owned = opening.pop_all()

    @property
    def setup(self) -> TcpSetup:
        """Whether ends are seen, and memory."""
        return TcpSetup(self._probe.memory() if self._probe else 0, self._probe is not None)

    def fileno(self) -> int:
        """Nothing happens between ticks."""
        return -1

    def react(self) -> None:
        """Nothing."""

    def flip(self, last: bool = False) -> None:
        """Nothing: the interval ends with the reading."""

    def tick(self) -> TcpSnapshot:
        """Read all sockets now."""
        return self._read()

    def finish(self) -> TcpSnapshot:
        """Read them for the last time."""
        self.ended = True
        return self._read()

    def close(self) -> None:
        """Detach the program, and release everything."""
        self.ended = True
        self._owned.close()

    def _read(self) -> TcpSnapshot:
        for namespace in self._namespaces.values():
            namespace.dump()
        ends: defaultdict[int, list[End]] = defaultdict(list)
        for end in self._probe.drain() if self._probe else ():
            ends[end.sample.netns].append(end)
        lost = self._probe.lost() if self._probe else None
        now = time.monotonic_ns()
        interval_ns, self._start_ns = now - self._start_ns, now
        sums: list[NamespaceSums] = []
        connections: list[Connection] = []
        for netns, namespace in self._namespaces.items():
            own_sums, changed = namespace.changes(ends[netns], lost)
            health, reasons = judge_failures(own_sums.failures, interval_ns, self._limits)
            sums.append(replace(own_sums, health=health, reasons=reasons))
            # attempts that failed are among the failures
            connections += (judge(each, interval_ns, self._limits) for each in changed if not each.has_failed)
        return TcpSnapshot(
            end_ns=time.time_ns(),
            interval_ns=interval_ns,
            namespaces=tuple(sums),
            connections=tuple(connections),
        )
