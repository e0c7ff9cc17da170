"""The files whose functions are probed: each once, until some time after the last process that has it mapped."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from xtrace.errors import XtraceError
from xtrace.kernel.syscall import lib
from xtrace.messages import Say
from xtrace.monitors.backoff import Backoff
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity, Library, opened
from xtrace.monitors.nccl.slots import IDLE_NS, Standing, choose
from xtrace.monitors.nccl.sparing import Sparing

log = logging.getLogger(__name__)

LINGER_NS = 10_000_000_000
"""A file stays probed this long after its last process: a job that starts again at once is seen from its first call."""

MOST_PROBED = 64
"""Files probed at once: one takes 2 descriptors, or 2 for each of its functions before Linux 6.6."""

ATTACH_NS = 1_000_000_000
"""How long one update attaches; the next one goes on."""

MOST_NAMED = 8
"""Unknown functions that a line names."""

CLOSED_AT_ONCE = 32
"""Each detaching waits for grace periods of the kernel, which they share."""


@dataclass
class Probed:
    """A file that is probed, or could be."""

    waiting_since_ns: int
    probes: ExitStack | None = None
    """None: its calls are not seen"""
    number: int = 0
    attached_ns: int = 0
    is_reported: bool = False
    """whether the reason why it is not probed was reported"""
    is_left_out_reported: bool = False
    unused_since_ns: int | None = None


@dataclass
class Wanted:
    """A file that processes have mapped."""

    user: User
    library: Library
    uids: set[int] = field(default_factory=set)


class ProbedFiles:
    """Probes what processes have mapped, and reports it; failures are reported once and tried again later.

    All but close() is for one thread.
    """

    def __init__(self, tables: CallTables, say: Say, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._tables = tables
        self._say = Sparing(say, clock)
        self._say_error = Sparing(partial(log.error, "%s"), clock)
        self._clock = clock
        self._backoff = Backoff(clock)
        self._files: dict[Identity, Probed] = {}
        self._number = 0
        self._is_limit_reported = False
        self._lock = threading.Lock()
        self._closed = False
        self.unprobed = 0
        """files with NCCL's functions that wait for room"""

    def probed(self) -> dict[Identity, int]:
        """The files whose calls are counted, and since when (CLOCK_MONOTONIC, ns)."""
        return {identity: file.attached_ns for identity, file in self._files.items() if file.probes is not None}

    def update(self, users: Iterable[User]) -> list[int]:
        """Probe the files of these processes, as many as there may be, and let others go.

        Returns the processes that must be searched again: another file has replaced one of theirs.
        """
        wanted: dict[Identity, Wanted] = {}
        mapped: set[Identity] = set()
        for user in users:
            mapped |= user.libraries.keys() | user.left_out.keys()
            for identity, library in user.libraries.items():
                wanted.setdefault(identity, Wanted(user, library)).uids.add(user.uid)
            for identity, library in user.left_out.items():
                self._leave_out(self._known(identity), user, library)
        self._let_go(mapped)
        return self._probe_best({identity: one for identity, one in wanted.items() if self._may_probe(identity, one)})

    def _probe_best(self, wanted: Mapping[Identity, Wanted]) -> list[int]:
        now = self._clock()
        candidates: defaultdict[int, list[Identity]] = defaultdict(list)
        for identity, one in wanted.items():
            for uid in one.uids:
                candidates[uid].append(identity)
        standings = {identity: self._standing(self._files[identity]) for identity in wanted}
        chosen = choose(candidates, standings, MOST_PROBED, now)
        missing = [identity for identity in chosen if not standings[identity].is_probed]
        self._make_room(len(missing), chosen, wanted)
        changed = []
        for identity in missing:
            if self._closed or self._clock() - now > ATTACH_NS:
                break
            if not self._attach(identity, wanted[identity]):
                changed.append(wanted[identity].user.pid)
        waiting = [identity for identity in wanted if identity not in chosen]
        self.unprobed = len(waiting)
        if waiting and not self._is_limit_reported:
            self._is_limit_reported = True
            where = wanted[waiting[0]]
            self._say(
                f"pid {where.user.pid} ({where.user.command}): {where.library.path}: not probed: {MOST_PROBED} files"
                " are, the most at once; more files wait for room, shared by user, and are not reported one by one"
            )
        return changed

    def _standing(self, file: Probed) -> Standing:
        if file.probes is None:
            return Standing(False, file.waiting_since_ns)
        return Standing(True, max(file.attached_ns, self._tables.last_called_ns(file.number)))

    def _make_room(self, number: int, chosen: Iterable[Identity], wanted: Iterable[Identity]) -> None:
        """Detach from files without a process, then from those called longest ago: room for `number` more."""
        kept, mapped = set(chosen), set(wanted)
        held = {identity: file for identity, file in self._files.items() if file.probes is not None}
        spare = sorted(
            held.keys() - kept, key=lambda identity: (identity in mapped, self._standing(held[identity]).active_ns)
        )
        self._detach(islice(spare, max(0, len(held) + number - MOST_PROBED)))

    def _known(self, identity: Identity) -> Probed:
        return self._files.setdefault(identity, Probed(self._clock()))

    def _may_probe(self, identity: Identity, wanted: Wanted) -> bool:
        """Whether a file is probed or can be now; reports why not, once."""
        file, library = self._known(identity), wanted.library
        if not library.offsets:
            if not file.is_reported:
                where = f"pid {wanted.user.pid} ({wanted.user.command}): {library.path}"
                self._say(f"{where}: {library.problem}: its calls are not seen")
            file.is_reported = True
            return False
        return file.probes is not None or self._backoff.reason(str(identity)) is None

    def _attach(self, identity: Identity, wanted: Wanted) -> bool:
        """Probe a file. False if another one has replaced it: the process must be searched again."""
        file, library, user = self._files[identity], wanted.library, wanted.user
        where = f"pid {user.pid} ({user.command}): {library.path}"
        number = self._next_number()
        try:
            with opened(library) as path:
                probes = self._tables.attach(path, library.offsets, number)
        except OSError as error:
            log.debug("%s: %s", where, error)  # the process is gone, or the file: another process may have it
            del self._files[identity]
            return False
        except XtraceError as error:
            self._backoff.failed(str(identity), str(error))
            if not file.is_reported:
                self._say_error(f"{where}: not probed: {error}; trying again later")
            file.is_reported = True
            return True
        file.number, file.attached_ns = number, self._clock()
        with self._lock:
            if not self._closed:
                file.probes = probes
        if file.probes is None:
            probes.close()
            return True
        self._say(f"probing {len(library.offsets)} functions of {library.path} (pid {user.pid}: {user.command})")
        if library.unknown:
            some = named(library.unknown)
            self._say(f"{where}: this version does not know {some}: calls of these are not seen (update xtrace-catch)")
        if library.dear:
            why = "they begin with an instruction that the kernel single-steps at a probe"
            self._say(
                f"{where}: calls of {named(library.dear)} cost about ten times as much as others while probed: {why}"
            )
        return True

    def _next_number(self) -> int:
        """A number that no probed file has, from 1 on."""
        used = {file.number for file in self._files.values() if file.probes is not None}
        while True:
            self._number = self._number % (lib.NCCL_FILES - 1) + 1
            if self._number not in used:
                return self._number

    def _leave_out(self, file: Probed, user: User, library: Library) -> None:
        """Report once that a file is not probed though it has the functions."""
        if not file.is_left_out_reported:
            others = ", ".join(other.path for other in user.libraries.values())
            where = f"pid {user.pid} ({user.command}): {library.path}"
            self._say(f"{where}: has NCCL's functions, and is not probed beside {others}: calls past that are not seen")
        file.is_left_out_reported = True

    def _let_go(self, mapped: set[Identity]) -> None:
        """Forget the files that no process has had for a while."""
        now = self._clock()
        unused = []
        for identity, file in self._files.items():
            if identity in mapped:
                file.unused_since_ns = None
            elif file.unused_since_ns is None:
                file.unused_since_ns = now
            elif now - file.unused_since_ns > LINGER_NS:
                unused.append(identity)
        self._detach(unused)
        for identity in unused:
            del self._files[identity]
            self._backoff.succeeded(str(identity))

    def _detach(self, identities: Iterable[Identity]) -> None:
        """Detach from files, which wait from now on."""
        with self._lock:
            probes = [held for identity in identities if (held := self._take(self._files[identity])) is not None]
        close_together(probes)

    def _take(self, file: Probed) -> ExitStack | None:
        probes, file.probes = file.probes, None
        file.waiting_since_ns = self._clock() + IDLE_NS
        return probes

    def close(self) -> None:
        """Detach from all, and probe no more. Also for another thread than the one that calls update()."""
        with self._lock:
            self._closed = True
            probes = [held for file in list(self._files.values()) if (held := self._take(file)) is not None]
        close_together(probes)


def named(functions: Sequence[str]) -> str:
    """The first MOST_NAMED of them."""
    return ", ".join(functions[:MOST_NAMED]) + (", ..." if len(functions) > MOST_NAMED else "")


def close_together(probes: list[ExitStack]) -> None:
    """Close all, some at the same time; returns when all are closed."""
    left = iter(probes)  # the threads share it; next() on it is atomic

    def close_some() -> None:
        for one in left:
            one.close()

    threads = [threading.Thread(target=close_some, name="detach") for _ in probes[1:CLOSED_AT_ONCE]]
    for thread in threads:
        thread.start()
    close_some()
    for thread in threads:
        thread.join()
