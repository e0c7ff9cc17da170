"""The health of TCP connections (--tcp): dumps of the living, a record of the dead, sums against the kernel's own.

An interval ends with its reading. In each namespace, in this order: RetransSegs, the dump, the ends, RetransSegs.
A socket that ends during the dump is among the ends, and what the dump has of it does not count.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import replace

from xtrace.errors import KernelError, XtraceError
from xtrace.kernel.network_namespaces import inode_of
from xtrace.messages import Say
from xtrace.model.limits import Limits
from xtrace.model.tcp import Connection, NamespaceSums, TcpSetup, TcpSnapshot
from xtrace.model.tcp_health import judge, judge_failures
from xtrace.monitors.tcp.destroyed import DestroyedSockets
from xtrace.monitors.tcp.ends import End, EndProbe
from xtrace.monitors.tcp.namespace import WatchedNamespace
from xtrace.monitors.tcp.peers import Monitored, Peers
from xtrace.monitors.wall import wall_offset


class TcpMonitor:
    """Reads the sockets of the tool's network namespace, and of those behind monitored veths, from its creation on."""

    mode = "tcp"

    def __init__(self, interval_s: float, limits: Limits, say: Say, monitored: Monitored) -> None:
        """What cannot be read is said once; the rest goes on."""
        self._limits = limits
        self._say = say
        self._said: set[str] = set()
        self.ended = False
        self._probe: EndProbe | DestroyedSockets | None = None
        with ExitStack() as opening:
            self._namespaces: dict[int, WatchedNamespace] = {}
            opening.callback(self._close_namespaces)
            own = WatchedNamespace(inode_of())
            self._namespaces[own.netns] = own
            self._peers = opening.enter_context(closing(Peers(monitored)))
            probe = _see_ends(interval_s, own.netns, say)
            self._probe = opening.enter_context(closing(probe)) if probe else None
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

    def _close_namespaces(self) -> None:
        for namespace in self._namespaces.values():
            namespace.close()

    def _follow_peers(self) -> None:
        """Read the namespaces behind the monitored interfaces from now on, and those no longer that are not."""
        try:
            peers = self._peers.find()
        except KernelError as error:
            self._say_once(f"--tcp: namespaces of peers are not read: {error}")
            return
        if self._peers.unfound:
            why = "none of their processes can be looked at, which needs CAP_SYS_PTRACE, and they have no name"
            self._say_once(f"--tcp: sockets behind {self._peers.unfound} monitored interfaces are not read: {why}")
        for netns in [netns for netns, known in self._namespaces.items() if known.path and netns not in peers]:
            self._namespaces.pop(netns).close()
            if self._probe:
                self._probe.forget(netns)
        for netns, path in peers.items():
            if netns not in self._namespaces:
                self._namespaces[netns] = WatchedNamespace(netns, path)
                if self._probe:
                    self._probe.follow(netns)

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def _read(self) -> TcpSnapshot:
        self._follow_peers()
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
            sees_ends = self._probe is not None and (self._probe.sees_others or namespace.path is None)
            own_sums, changed = namespace.changes(ends[netns], lost, sees_ends=sees_ends)
            health, reasons = judge_failures(own_sums.failures, interval_ns, self._limits)
            sums.append(replace(own_sums, health=health, reasons=reasons))
            if namespace.path and own_sums.errors:
                self._say_once(f"--tcp: sockets behind a monitored interface are not read: {own_sums.errors[0]}")
            # attempts that failed are among the failures
            judged = (judge(each, interval_ns, self._limits) for each in changed if not each.has_failed)
            connections += (each._replace(netns=netns, is_local=namespace.path is None) for each in judged)
        return TcpSnapshot(
            end_ns=now + wall_offset(),
            interval_ns=interval_ns,
            namespaces=tuple(sums),
            connections=tuple(connections),
        )


def _see_ends(interval_s: float, netns: int, say: Say) -> EndProbe | DestroyedSockets | None:
    """Return what sees sockets of the tool's namespace end, the program if possible; None if nothing does."""
    try:
        with ExitStack() as opening:
            probe = opening.enter_context(closing(EndProbe(interval_s)))
            probe.follow(netns)
            opening.pop_all()
            return probe
    except XtraceError as error:
        refused = error
    try:
        told = DestroyedSockets(netns)
    except KernelError:
        say(f"--tcp: {refused}: what sockets do after the last reading of them is not seen")
        return None
    say(
        f"--tcp: {refused}: sock_diag tells of ends of sockets instead, which costs each connection 4 to 7 us; how many"
        " are lost, why connects fail and who closes is not known"
    )
    return told
