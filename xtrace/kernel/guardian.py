"""A process that gives the terminal back if this one is killed."""

from __future__ import annotations

import os
from contextlib import suppress

from xtrace.kernel import syscall


class Guardian:
    """Watches over a terminal until it is dismissed, or this process is gone."""

    def __init__(self, keyboard: int, screen: int, leave: bytes) -> None:
        """Start it. `keyboard` has the modes to give back; `leave` is what to write to `screen`. Raises KernelError."""
        dismissal, self._pipe = os.pipe2(os.O_CLOEXEC)
        try:
            guard = syscall.lib.xt_guard_terminal
            self._pid = syscall.call("starting a guardian", guard, keyboard, screen, dismissal, leave, len(leave))
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(dismissal)

    def dismiss(self) -> None:
        """End it; the terminal stays as it is."""
        with suppress(BrokenPipeError):  # somebody has killed it
            os.write(self._pipe, b"\0")
        os.close(self._pipe)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
