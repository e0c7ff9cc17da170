"""Mode nccl: what the processes that use NCCL ask for, and what their NICs carried meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice

from xtrace.errors import XtraceError
from xtrace.kernel import privileges, proc
from xtrace.kernel.syscall import lib
from xtrace.messages import Say
from xtrace.model.nccl import (
    CallKey,
    Communicator,
    Counters,
    NcclProcess,
    NcclSetup,
    NcclSnapshot,
)
from xtrace.model.nccl_judge import judge
from xtrace.model.nccl_lateness import Comparison
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_ras import RasReport, with_names
from xtrace.model.nccl_verdicts import NORMAL, Covered, Limits
from xtrace.monitors.buffers import Ended
from xtrace.monitors.nccl.calls import CallTables, Known
from xtrace.monitors.nccl.finder import User, look_up
from xtrace.monitors.nccl.groups import NOTHING_KNOWN, group_calls
from xtrace.monitors.nccl.ranks import RankReader
from xtrace.monitors.nccl.ras_services import RasServices
from xtrace.monitors.nccl.sparing import Held
from xtrace.monitors.nccl.sums import Sums
from xtrace.monitors.nccl.watcher import Watcher
from xtrace.monitors.wall import wall_offset

MOST_NEWCOMERS = 256
"""Processes per interval that are looked up because they called before they were found; of others the thread's name is
known."""

NO_RETURNS = (
    "mode nccl: on this kernel return probes kill processes that a seccomp filter confines, as in containers: only the"
    " beginning of calls is seen, no results, no durations, no open calls, no verdicts"
)


@dataclass(frozen=True)
class RasOptions:
    """--ras and --ras-interval."""

    addresses: tuple[tuple[str, int], ...]
    every_s: float


@dataclass(frozen=True)
class NcclOptions:
    """What the user requested of mode nccl."""

    host: str
    """name of this host in verdicts"""
    limits: Limits = NORMAL
    max_calls: int = lib.NCCL_MAX_KEYS
    ras: RasOptions | None = None


class NcclMonitor:
    """Counts NCCL calls from its creation on; follows processes as they start and end."""

    mode = "nccl"

    def __init__(self, say: Say, options: NcclOptions) -> None:
        privileges.require(privileges.NCCL_NEEDS, "mode nccl")
        if not proc.sees_all():
            raise XtraceError(
                "mode nccl: process IDs in this container's /proc differ from the kernel's, so calls cannot be assigned"
                " to processes (run it with --pid host or -v /proc:/host/proc:ro)"
            )
        privileges.raise_memlock_limit()
        privileges.raise_open_files_limit()
        self._say = say
        held = Held(say)
        self._limits = options.limits
        self._sums = Sums()
        self._comparison = Comparison()
        self._is_greedy_reported = False
        self._callers: set[int] = set()
        """processes whose calls were seen"""
        self._newcomers: dict[int, User] = {}
        """processes that called before they were found"""
        self.ended = False
        self._interval: Ended | None = None
        """that has ended and was not read yet"""
        with ExitStack() as opening:
            self._tables = opening.enter_context(CallTables(options.max_calls))
            if not self._tables.has_returns:
                say(NO_RETURNS)
            self._ranks = RankReader(self._tables, options.host)
            self._watcher = Watcher(self._tables, held)
            opening.callback(self._watcher.stop)
            self._watched = self._watcher.take()
            # files are probed one after the other: the first interval begins when they are, with empty tables
            begun = self._tables.flip()
            self._tables.collect(begun)
            self._start_ns = begun.monotonic_ns
            held.release()
            if not self._watched.users:
                say("mode nccl: no process uses NCCL now; looking for new ones every second")
            ras = options.ras
            self._ras = RasServices(ras.addresses, ras.every_s) if ras else None
            if self._ras:
                opening.callback(self._ras.close)
            self._opened = opening.pop_all()

    @property
    def setup(self) -> NcclSetup:
        """How functions are probed, and what the call table takes."""
        tables = self._tables
        attach = "uprobe_multi" if tables.multi else "perf_event"
        return NcclSetup(tables.memory(), attach=attach, max_keys=tables.max_keys, has_returns=tables.has_returns)

    def pids(self) -> list[int]:
        """The processes that use NCCL."""
        return list(self._watched.users)

    def fileno(self) -> int:
        """Nothing happens between ticks: a thread follows the processes."""
        return -1

    def react(self) -> None:
        """Never called."""

    def flip(self, last: bool = False) -> None:
        """End the current interval, and start the next. After the last one close() detaches, which may take long."""
        self._interval = self._tables.flip()
        if last:
            self._watcher.end()
            self.ended = True

    def tick(self) -> NcclSnapshot:
        """The snapshot of the interval that flip() ended, or of one that ends now."""
        if self._interval is None:
            self.flip()
        return self._snapshot()

    def finish(self) -> NcclSnapshot:
        """The same of the last interval."""
        if not self.ended:
            self.flip(last=True)
        return self._snapshot()

    def close(self) -> None:
        """Detach and release everything."""
        self.ended = True
        self._opened.close()

    def _snapshot(self) -> NcclSnapshot:
        assert self._interval is not None
        taken, self._interval = self._tables.collect(self._interval), None
        seen = self._ranks.see()
        in_use = seen.in_use()
        # a call on any address makes a communicator: one of which no more is known is reported only while it is used
        known = {
            where: facts
            for where, state in seen.states.items()
            if (facts := Known.of(state)) != NOTHING_KNOWN or state.id or where in in_use
        }
        self._watched = self._watcher.take()
        if self._ras:
            self._ras.follow(self.pids())
        by_process: defaultdict[int, dict[CallKey, Counters]] = defaultdict(dict)
        for key, counters in taken.calls.items():
            by_process[key.pid][key] = counters
        self._callers -= self._watched.gone.keys()
        self._callers |= by_process.keys()
        self._report_greedy(by_process)
        processes_ = tuple(self._processes(by_process, known, taken.end_monotonic_ns))
        users = {**self._newcomers, **self._watched.gone, **self._watched.users}
        ranks = self._comparison.of(self._ranks.ranks(seen, users, self._watched.earlier))
        self._forget_gone(seen.states)
        snapshot = NcclSnapshot(
            end_ns=taken.end_monotonic_ns + wall_offset(),
            interval_ns=taken.end_monotonic_ns - self._start_ns,
            processes=processes_,
            totals=taken.totals,
            skipped=self._watched.skipped,
            has_returns=self._tables.has_returns,
            sums=self._sums.add(processes_, taken.totals),
            ranks=ranks,
            verdicts=tuple(judge(ranks, self._limits, Covered.ONE_HOST)),
            ras=self._take_ras(ranks),
            ras_answers=self._ras.answers if self._ras else None,
        )
        self._start_ns = taken.end_monotonic_ns
        return snapshot

    def _take_ras(self, ranks: Iterable[Rank]) -> RasReport | None:
        """What RAS services told since the last interval, beside the names that its communicators have here."""
        report = self._ras.take() if self._ras else None
        return with_names(report, {rank.communicator for rank in ranks}) if report else None

    def _report_greedy(self, by_process: Mapping[int, Mapping[CallKey, Counters]]) -> None:
        """Say once that a process has used all the keys that one process may."""
        for pid, calls in by_process.items():
            if len(calls) >= lib.NCCL_PROCESS_KEYS and not self._is_greedy_reported:
                self._is_greedy_reported = True
                self._say(
                    f"mode nccl: pid {pid}: {len(calls)} combinations of communicator, function and datatype in one"
                    " interval, the most for one process: its calls with others are unattributed"
                )

    def _processes(
        self, calls: Mapping[int, Mapping[CallKey, Counters]], known: Mapping[tuple[int, int], Known], end_ns: int
    ) -> Iterator[NcclProcess]:
        """The processes that use NCCL, and those that called it and are gone. `end_ns`: the interval's, monotonic."""
        own: defaultdict[int, dict[int, Known]] = defaultdict(dict)
        for (pid, address), facts in known.items():
            own[pid][address] = facts
        users, gone = self._watched.users, self._watched.gone
        newcomers = islice(calls.keys() - users.keys() - gone.keys(), MOST_NEWCOMERS)
        self._newcomers.clear()
        for pid in newcomers:
            start_time = proc.start_time(pid)
            if start_time is not None:
                self._newcomers[pid] = look_up(pid, start_time)
        for pid in sorted({*calls, *users, *gone}):
            user = users.get(pid) or gone.get(pid) or self._newcomers.get(pid)
            process = self._process(pid, user, calls.get(pid, {}), own[pid])
            yield replace(process, seen_ns=self._seen_ns(user, end_ns))

    def _process(
        self, pid: int, user: User | None, calls: Mapping[CallKey, Counters], known: Mapping[int, Known]
    ) -> NcclProcess:
        groups = group_calls(calls, known)
        loose = groups.pop((0, NOTHING_KNOWN), [])
        libraries = user.libraries.values() if user else ()
        # all that is left of a process that was never found is the name of the thread that called
        thread = next((counters.command for counters in calls.values()), "")
        return NcclProcess(
            pid=pid,
            command=user.command if user else f"[{thread}]",
            container=user.container if user else None,
            libraries=tuple(library.path for library in libraries),
            probed=pid in self._callers or self._are_probed(user),
            ended=pid not in self._watched.users and (pid in self._watched.gone or proc.start_time(pid) is None),
            communicators=tuple(
                Communicator(address, *facts, operations=tuple(operations))
                for (address, facts), operations in sorted(groups.items(), key=lambda group: group[0][0])
            ),
            operations=tuple(loose),
        )

    def _seen_ns(self, user: User | None, end_ns: int) -> int | None:
        """How long the calls of a process were counted, if its library was probed within the interval."""
        probed = self._watched.probed
        since = [probed[file] for file in user.libraries.keys() & probed.keys()] if user else []
        return end_ns - min(since) if since and self._start_ns < min(since) < end_ns else None

    def _are_probed(self, user: User | None) -> bool:
        """Whether a process that was not seen calling could not have called unseen."""
        files = (user.libraries.keys() | user.left_out.keys()) if user and not user.is_cut else set()
        return bool(files) and files <= self._watched.probed.keys()

    def _forget_gone(self, known: Iterable[tuple[int, int]]) -> None:
        """Forget the communicators of processes that ended, and which processes were seen calling."""
        users, probed = self._watched.users, self._watched.probed.keys()
        owners = {pid for pid, _ in known}
        ended = {pid for pid in owners - users.keys() if self._has_ended(pid)}
        for pid, address in known:
            if pid in ended:
                self._tables.forget(pid, address)
        # a file that lost its probes to another one: from now on its processes may call unseen
        self._callers = {
            pid
            for pid in self._callers & users.keys()
            if probed & users[pid].libraries.keys() or not users[pid].libraries
        }

    def _has_ended(self, pid: int) -> bool:
        """Whether there is no such process, or another one of that number."""
        now, gone = proc.start_time(pid), self._watched.gone.get(pid)
        return now is None or (gone is not None and now != gone.start_time)
