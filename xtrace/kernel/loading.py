"""Programs that are loaded in threads: the kernel verifies them while the interpreter does something else.

BPF_PROG_LOAD runs without the interpreter's lock, and for privileged callers the kernel verifies several programs at
once (bpf_check() in kernel/bpf/verifier.c takes its lock for others only). A thread does nothing else: it would have to
wait for the lock each time.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from threading import Thread
from typing import Generic, TypeVar

from xtrace.errors import XtraceError
from xtrace.kernel.bpf import Program

Key = TypeVar("Key", bound=Hashable)

MOST_AT_ONCE = 8
"""Each takes memory of the kernel's while it is verified."""


class Loading:
    """A program that is being loaded. It has to be taken or closed, which waits for its thread."""

    def __init__(self, load: Callable[[], Program]) -> None:
        self._load = load
        self._program: Program | None = None
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="loading a program")
        # signals are the main thread's: one that interrupts the verifier makes it begin again
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        except RuntimeError:  # as many as the control group allows
            self._run()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _run(self) -> None:
        try:
            self._program = self._load()
        except BaseException as failure:  # noqa: BLE001 - raised where the program is taken
            self._failure = failure

    def take(self) -> Program:
        """Return the program, which belongs to the caller then. Raises what loading it has raised."""
        self._wait()
        if self._failure is not None:
            raise self._failure
        program, self._program = self._program, None
        assert program is not None, "taken before"
        return program

    def close(self) -> None:
        """Release the program, if nobody took it."""
        self._wait()
        if self._program is not None:
            self._program.close()

    def _wait(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()


class Ahead(Generic[Key]):
    """Loads the programs that are expected before they are asked for: as many at once as there are CPUs."""

    def __init__(self, prepare: Callable[[Key], Callable[[], Program]]) -> None:
        """`prepare` returns what loads a program."""
        self._prepare = prepare
        self._at_once = min(len(os.sched_getaffinity(0)), MOST_AT_ONCE)
        self._expected: deque[Key] = deque()
        self._begun: dict[Key, Loading] = {}

    def expect(self, programs: Iterable[Key]) -> None:
        """Begin to load these, in this order. None of them may be expected already."""
        self._expected.extend(programs)
        self._go_on()

    def _go_on(self) -> None:
        while self._expected and len(self._begun) < self._at_once:
            key = self._expected.popleft()
            with suppress(XtraceError):  # tried again, and raised, where it is taken
                self._begun[key] = Loading(self._prepare(key))

    def take(self, key: Key) -> Program:
        """Return a program, expected or not. Raises what preparing and loading it raises."""
        if key in self._expected:
            self._expected.remove(key)
        begun = self._begun.pop(key, None)
        if begun is None:
            return self._prepare(key)()
        self._go_on()
        return begun.take()

    def close(self) -> None:
        """Expect nothing any more, and release what was not taken."""
        self._expected.clear()
        while self._begun:
            self._begun.popitem()[1].close()
