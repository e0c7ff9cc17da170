"""Mode nccl: what the processes that use NCCL ask for, and what their NICs carried meanwhile."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from xtrace.errors import XtraceError
from xtrace.kernel import privileges, proc, syscall
from xtrace.kernel.bpf import Fd
from xtrace.messages import Say
from xtrace.model.nccl import (
    CallKey,
    Communicator,
    Counters,
    NcclProcess,
    NcclSetup,
    NcclSnapshot,
)
from xtrace.monitors.nccl.calls import CallTables, Known, TakenCalls
from xtrace.monitors.nccl.groups import NOTHING_KNOWN, group_calls
from xtrace.monitors.nccl.libraries import Finder, User
from xtrace.monitors.nccl.probed import ProbedFiles
from xtrace.monitors.nccl.ras import RasPoller
from xtrace.monitors.nccl.sums import Sums

SCAN_NS = 1_000_000_000
"""Processes are looked for this often."""


@dataclass(frozen=True)
class RasOptions:
    """--ras and --ras-interval."""

    address: tuple[str, int]
    every_s: float


class NcclMonitor:
    """Counts NCCL calls from its creation on; follows processes as they come and go."""

    mode = "nccl"

    def __init__(self, say: Say, ras: RasOptions | None = None) -> None:
        privileges.require(privileges.NCCL_NEEDS, "mode nccl")
        if not proc.sees_all():
            raise XtraceError(
                "mode nccl: this container's proc numbers processes otherwise than the kernel does, whose calls could"
                " not be told apart: run it with --pid host or -v /proc:/host/proc:ro"
            )
        privileges.raise_memlock_limit()
        privileges.raise_open_files_limit()
        self._say = say
        self._finder = Finder()
        self._sums = Sums()
        self._told_of_refused = False
        self._gone: dict[int, User] = {}
        """that ended in this interval"""
        self._callers: set[int] = set()
        """processes whose calls were seen"""
        self.ended = False
        with ExitStack() as opening:
            self._tables = opening.enter_context(CallTables())
            self._files = ProbedFiles(self._tables, say)
            opening.callback(self._files.close)
            self._timer = opening.enter_context(Fd(syscall.call("timerfd_create", syscall.lib.xt_timerfd, SCAN_NS)))
            self._look()
            self._start_ns = time.monotonic_ns()
            if not self._finder.users:
                say("mode nccl: no process uses NCCL now; looking for new ones every second")
            self._ras = RasPoller(ras.address, ras.every_s) if ras else None
            if self._ras:
                opening.callback(self._ras.close)
            self._opened = opening.pop_all()

    @property
    def setup(self) -> NcclSetup:
        """How functions are probed, and what the call table takes."""
        tables = self._tables
        attach = "uprobe_multi" if tables.multi else "perf_event"
        return NcclSetup(map_memory=tables.memory(), attach=attach, max_keys=tables.max_keys)

    def pids(self) -> list[int]:
        """The processes that use NCCL."""
        return list(self._finder.users)

    def fileno(self) -> int:
        """Readable when it is time to look for processes; then react() is to be called."""
        return self._timer.fileno()

    def react(self) -> None:
        """Look for processes that came and went."""
        with suppress(BlockingIOError):
            os.read(self._timer.fileno(), 8)
            self._look()

    def _look(self) -> None:
        before = self._finder.users.copy()
        self._finder.scan()
        for pid, user in before.items():
            now = self._finder.users.get(pid)
            if now is None or now.start_time != user.start_time:
                self._gone[pid] = user
            if now is not None and now.start_time != user.start_time:
                self._forget(pid)
        used = set()
        for user in self._finder.users.values():
            for identity, library in user.libraries.items():
                used.add(identity)
                if not self._files.probe(user, library):
                    self._finder.look_anew(user.pid)
            for identity, library in user.left_out.items():
                used.add(identity)
                self._files.leave_out(user, library)
        self._files.let_go(used)
        if self._finder.refused and not self._told_of_refused:
            self._told_of_refused = True
            some = ", ".join(map(str, sorted(self._finder.refused)[:5]))
            more = ", ..." if len(self._finder.refused) > 5 else ""
            self._say(f"mode nccl: not looked into, because ptrace access is refused: pid {some}{more}")

    def tick(self) -> NcclSnapshot:
        """End the current interval, start the next."""
        return self._snapshot(self._tables.take())

    def finish(self) -> NcclSnapshot:
        """Detach, end the last interval."""
        self._files.close()
        self.ended = True
        return self._snapshot(self._tables.finish())

    def close(self) -> None:
        """Detach and release everything."""
        self.ended = True
        self._opened.close()

    def _snapshot(self, taken: TakenCalls) -> NcclSnapshot:
        known = self._tables.communicators()
        by_process: defaultdict[int, dict[CallKey, Counters]] = defaultdict(dict)
        for key, counters in taken.calls.items():
            by_process[key.pid][key] = counters
        self._callers |= by_process.keys()
        processes_ = tuple(self._processes(by_process, known))
        self._forget_gone(known)
        snapshot = NcclSnapshot(
            end_ns=taken.end_monotonic_ns + time.time_ns() - time.monotonic_ns(),
            interval_ns=taken.end_monotonic_ns - self._start_ns,
            processes=processes_,
            totals=taken.totals,
            sums=self._sums.add(processes_, taken.totals),
            ras=self._ras.take() if self._ras else None,
            ras_answers=self._ras.answers if self._ras else None,
        )
        self._start_ns = taken.end_monotonic_ns
        return snapshot

    def _processes(
        self, calls: Mapping[int, Mapping[CallKey, Counters]], known: Mapping[tuple[int, int], Known]
    ) -> Iterator[NcclProcess]:
        """Those that use NCCL, and those that called it and are gone."""
        own: defaultdict[int, dict[int, Known]] = defaultdict(dict)
        for (pid, address), facts in known.items():
            own[pid][address] = facts
        for pid in sorted({*calls, *self._finder.users, *self._gone}):
            user = self._finder.users.get(pid) or self._gone.get(pid) or self._finder.look_again(pid)
            yield self._process(pid, user, calls.get(pid, {}), own[pid])

    def _process(
        self, pid: int, user: User | None, calls: Mapping[CallKey, Counters], known: Mapping[int, Known]
    ) -> NcclProcess:
        groups = group_calls(calls, known)
        loose = groups.pop((0, NOTHING_KNOWN), [])
        libraries = user.libraries.values() if user else ()
        # of one that came and went between two looks all that is left is the name of the thread that called
        thread = next((counters.command for counters in calls.values()), "")
        return NcclProcess(
            pid=pid,
            command=user.command if user else f"[{thread}]",
            container=user.container if user else None,
            libraries=tuple(library.path for library in libraries),
            probed=pid in self._callers or self._are_probed(user),
            ended=pid not in self._finder.users and (pid in self._gone or proc.start_time(pid) is None),
            communicators=tuple(
                Communicator(address, *facts, operations=tuple(operations))
                for (address, facts), operations in sorted(groups.items(), key=lambda group: group[0][0])
            ),
            operations=tuple(loose),
        )

    def _are_probed(self, user: User | None) -> bool:
        """Whether a process that was not seen calling could not have called unseen."""
        files = (*user.libraries.values(), *user.left_out.values()) if user else ()
        return bool(files) and all(self._files.is_probed(library) for library in files)

    def _forget(self, pid: int) -> None:
        """Another process has its number: its communicators are not that one's, nor are its calls."""
        self._callers.discard(pid)
        for owner, address in self._tables.communicators():
            if owner == pid:
                self._tables.forget(owner, address)

    def _forget_gone(self, known: Iterable[tuple[int, int]]) -> None:
        for pid, address in known:
            if pid not in self._finder.users and self._has_ended(pid):
                self._tables.forget(pid, address)
        self._callers &= self._finder.users.keys()
        self._gone.clear()

    def _has_ended(self, pid: int) -> bool:
        """Whether there is no such process, or another one of that number."""
        now, gone = proc.start_time(pid), self._gone.get(pid)
        return now is None or (gone is not None and now != gone.start_time)
