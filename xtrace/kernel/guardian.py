"""A process that gives the terminal back if this one is killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

from xtrace.kernel import syscall


class Guardian:
    """Watches over a terminal until it is dismissed, or this process is gone."""

    def __init__(self, keyboard: int, screen: int, modes: list[Any], leave: bytes) -> None:
        """Start it. `keyboard` has the modes to give back; `leave` is what to write to `screen`. Raises KernelError.

        `modes`, as tcgetattr() returns them, are those that will be set: only from these are the others given back.
        """
        characters = [value if isinstance(value, int) else ord(value) for value in modes[6]]
        used = syscall.ffi.new("struct terminal_modes *")
        used.input, used.local = modes[0], modes[3]
        used.characters = characters[: syscall.lib.XT_TERMINAL_CHARACTERS]
        dismissal, self._pipe = os.pipe2(os.O_CLOEXEC)
        try:
            guard = syscall.lib.xt_guard_terminal
            arguments = keyboard, screen, dismissal, used, leave, len(leave)
            self._pid = syscall.call("starting a guardian", guard, *arguments)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(dismissal)

    def dismiss(self) -> None:
        """End it; the terminal stays as it is."""
        with suppress(BrokenPipeError):  # somebody has killed it
            os.write(self._pipe, b"\0")
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # it may have been stopped
        os.close(self._pipe)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
