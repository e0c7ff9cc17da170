"""The thread that follows processes and probes their files: neither may keep a tick waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xtrace.messages import Say
from xtrace.model.nccl import Skipped
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.earlier import Earlier, EarlierCalls
from xtrace.monitors.nccl.finder import Finder, User
from xtrace.monitors.nccl.libraries import Identity
from xtrace.monitors.nccl.probed import ProbedFiles

log = logging.getLogger(__name__)

ROUND_S = 1.0
"""Processes are looked for this often."""

SLICE_S = 0.1
"""What was found is probed after searching for so long, even if there is more to search."""

START_S = 5.0
"""How long the start waits for the first round: before Linux 6.6 a library takes one to three."""

CLOSE_S = 0.5
"""How long the end waits for the thread; it may be reading a file that does not answer."""

STUCK_NS = 30_000_000_000


@dataclass(frozen=True)
class Watched:
    """What the thread knew at the end of its last step."""

    users: Mapping[int, User] = field(default_factory=dict)
    gone: Mapping[int, User] = field(default_factory=dict)
    """users that ended since this was last taken"""
    probed: Mapping[Identity, int] = field(default_factory=dict)
    """files whose calls are counted, and since when (CLOCK_MONOTONIC, ns)"""
    skipped: Skipped = field(default_factory=Skipped)
    earlier: Mapping[int, Earlier] = field(default_factory=dict)
    """what stacks tell of processes that are older than their probes"""


class Watcher:
    """Searches and probes from its creation on."""

    def __init__(self, tables: CallTables, say: Say) -> None:
        self._say = say
        self._tables = tables
        self._finder = Finder()
        self._files = ProbedFiles(tables, say)
        self._earlier = EarlierCalls()
        self._lock = threading.Lock()
        self._watched = Watched()
        self._gone: dict[int, User] = {}
        self._reported: set[str] = set()
        self._alive_ns = time.monotonic_ns()
        self._stop = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="processes", daemon=True)
        self._thread.start()
        self._started.wait(START_S)

    def take(self) -> Watched:
        """What is known now; a user that ended is part of it once."""
        with self._lock:
            watched, gone, self._gone = self._watched, self._gone, {}
        if time.monotonic_ns() - self._alive_ns > STUCK_NS:
            self._report("stuck", "a file or process does not answer: no new process is followed until it does")
        return replace(watched, gone=gone)

    def end(self) -> None:
        """Probe nothing more. Does not wait."""
        self._stop.set()

    def stop(self) -> bool:
        """Detach all probes, and end the thread. False if it does not answer: it may not be waited for."""
        self._stop.set()
        self._thread.join(CLOSE_S)
        self._files.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.is_set():
            begun = time.monotonic()
            self._finder.grant(round((begun - before) * 1e9))
            before = begun
            try:
                self._finder.sweep()
                while self._search():
                    self._follow()
                self._follow()
                self._tables.recount_communicators()
            except Exception:  # or the thread would end, and new processes go unseen
                log.exception("mode nccl: looking for processes failed; trying again")
            self._started.set()
            self._stop.wait(max(0.0, ROUND_S - (time.monotonic() - begun)))

    def _search(self) -> bool:
        """Search for a while; False when there is nothing left, or no time."""
        until = time.monotonic() + SLICE_S
        while time.monotonic() < until:
            self._alive_ns = time.monotonic_ns()
            if self._stop.is_set() or not self._finder.step():
                return False
        return True

    def _follow(self) -> None:
        """Probe what was found, and hand over what is known."""
        self._alive_ns = time.monotonic_ns()
        finder = self._finder
        for pid in self._files.update(finder.users.values()):
            finder.look_anew(pid)
        for pid in finder.gone.keys() & finder.users.keys():
            self._tables.forget_process(pid)  # another process has its pid
        skipped = finder.skipped()._replace(unprobed_files=self._files.unprobed)
        users, probed = dict(finder.users), self._files.probed()
        earlier = self._earlier.update(users, probed, self._tables.last_begun)
        watched = Watched(users, {}, probed, skipped, earlier)
        with self._lock:
            self._watched = watched
            self._gone.update(finder.gone)
        finder.gone.clear()
        self._report_skipped(skipped)

    def _report_skipped(self, skipped: Skipped) -> None:
        """A line for each cause, once; how many there are is in every snapshot."""
        finder = self._finder
        if finder.refused:
            some = ", ".join(map(str, sorted(finder.refused)[:5]))
            more = ", ..." if len(finder.refused) > 5 else ""
            self._report("refused", f"not searched, because ptrace access is denied: pid {some}{more}")
        if skipped.cut_processes:
            pid, why = next(iter(finder.cut.items()))
            self._report("cut", f"pid {pid}: not searched as a whole: {why}; cut_processes counts such processes")

    def _report(self, cause: str, text: str) -> None:
        if cause not in self._reported:
            self._reported.add(cause)
            self._say(f"mode nccl: {text}")
