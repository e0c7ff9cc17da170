"""Exceptions. The text of each is the one line that the user sees.

This module imports nothing from the package, so every other module may import it.
"""

import os
from errno import EMFILE, errorcode


def error_name(number: int) -> str:
    """Return `EPERM (Operation not permitted)` for 1."""
    return f"{errorcode.get(number, f'errno {number}')} ({os.strerror(number)})"


class XtraceError(Exception):
    """Base class of the tool's errors. `str()` is one line: what failed, on what, why, what to do."""

    exit_code = 1


class UsageError(XtraceError):
    """The command line or an environment variable is invalid."""

    exit_code = 2


class Stopped(XtraceError):
    """A stop was requested during start-up: a normal end."""

    exit_code = 0


class PrivilegeError(XtraceError):
    """A required capability is missing."""

    exit_code = 77


class ObjectError(XtraceError):
    """A BPF object file is malformed or not supported by the loader."""


class InterfaceError(XtraceError):
    """An interface is missing, gone, or cannot be attached to."""


class RdmaError(XtraceError):
    """There is no RDMA device, or not the one requested."""


_CURES = {EMFILE: " (raise the limit: `ulimit -n 4096`, LimitNOFILE= of a service)"}
"""Where the same helps whatever the call was."""


class KernelError(XtraceError):
    """A system call failed.

    `call` is its name and object (`BPF_MAP_CREATE(flows_a)`), `errno` the positive error number, `detail` further
    text from the kernel or from this tool.
    """

    def __init__(self, call: str, errno: int, detail: str = "") -> None:
        self.call = call
        self.errno = errno
        self.detail = detail
        super().__init__(f"{call}: {error_name(errno)}" + (f": {detail}" if detail else "") + _CURES.get(errno, ""))


class VerifierError(KernelError):
    """The kernel rejected a program. `detail` has the last lines of the verifier's log, `log` all of them."""

    def __init__(self, call: str, errno: int, log: str) -> None:
        self.log = log
        # Linux 7.3 adds a long explanation after the classic log
        terse = log.partition("\nVerification failed: ")[0]
        lines = [line.strip() for line in terse.splitlines() if line.strip()]
        while lines and lines[-1].startswith(("processed ", "verification time ", "stack depth ")):
            lines.pop()
        super().__init__(call, errno, " | ".join(lines[-3:]))
