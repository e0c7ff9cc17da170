"""The files whose functions are probed: each once, until some time after the last process that has it mapped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass

from xtrace.errors import XtraceError
from xtrace.messages import Say
from xtrace.monitors.backoff import Backoff
from xtrace.monitors.nccl.calls import CallTables
from xtrace.monitors.nccl.libraries import Identity, Library, User, opened

log = logging.getLogger(__name__)

LINGER_NS = 10_000_000_000
"""A file stays probed this long after its last process: a job that starts again at once is seen from its first call."""

MOST_PROBED = 64
"""Files probed at once: one takes 2 descriptors, or 2 for each of its functions before Linux 6.6."""


@dataclass
class Probed:
    """A file that was to be probed."""

    probes: ExitStack | None = None
    """None: its calls are not seen"""
    told: bool = False
    """whether it was said why"""
    told_left_out: bool = False
    unused_since_ns: int | None = None


class ProbedFiles:
    """Probes what processes have mapped, and says so; what fails is said once and tried again later."""

    def __init__(self, tables: CallTables, say: Say, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._tables = tables
        self._say = say
        self._clock = clock
        self._backoff = Backoff(clock)
        self._files: dict[Identity, Probed] = {}
        self._number = 0
        self._told_of_limit = False

    def is_probed(self, library: Library) -> bool:
        """Whether its calls are counted, or were until close()."""
        file = self._files.get(library.identity)
        return file is not None and file.probes is not None

    def probe(self, user: User, library: Library) -> bool:
        """Probe a file unless it is. False where another file stands there by now: it is to be looked for again."""
        file = self._files.setdefault(library.identity, Probed())
        where = f"pid {user.pid} ({user.command}): {library.path}"
        if file.probes is not None or not self._may_try(file, library, where):
            return True
        self._number += 1
        try:
            with opened(library) as path:
                file.probes = self._tables.attach(path, library.offsets, self._number)
        except OSError as error:
            log.debug("%s: %s", where, error)  # the process is gone, or the file: another one may have it
            del self._files[library.identity]
            return False
        except XtraceError as error:
            self._backoff.failed(str(library.identity), str(error))
            if not file.told:
                log.error("%s: not probed: %s; trying again later", where, error)
            file.told = True
            return True
        self._say(f"probing {len(library.offsets)} functions of {library.path} (pid {user.pid}: {user.command})")
        return True

    def _may_try(self, file: Probed, library: Library, where: str) -> bool:
        if not library.offsets:
            if not file.told:
                self._say(f"{where}: {library.problem}: its calls are not seen")
            file.told = True
            return False
        if sum(known.probes is not None for known in self._files.values()) >= MOST_PROBED:
            if not self._told_of_limit:
                self._say(f"{where}: not probed: {MOST_PROBED} files are, the most at once; others too wait for room")
            self._told_of_limit = True
            return False
        return self._backoff.reason(str(library.identity)) is None

    def leave_out(self, user: User, library: Library) -> None:
        """Say once that a file is not probed though it has the functions."""
        file = self._files.setdefault(library.identity, Probed())
        if not file.told_left_out:
            others = ", ".join(other.path for other in user.libraries.values())
            where = f"pid {user.pid} ({user.command}): {library.path}"
            self._say(f"{where}: has NCCL's functions, and is not probed beside {others}: calls past that are not seen")
        file.told_left_out = True

    def let_go(self, used: Container[Identity]) -> None:
        """Detach from files that no process has had for a while."""
        now = self._clock()
        for identity, file in list(self._files.items()):
            if identity in used:
                file.unused_since_ns = None
            elif file.unused_since_ns is None:
                file.unused_since_ns = now
            elif now - file.unused_since_ns > LINGER_NS:
                del self._files[identity]
                self._backoff.succeeded(str(identity))
                if file.probes is not None:
                    file.probes.close()

    def close(self) -> None:
        """Detach from all."""
        for file in self._files.values():
            if file.probes is not None:
                file.probes.close()
