"""What can go wrong, as exceptions whose text is the one line the user sees.

This module imports nothing of the package: every other module may import it.
"""

import os
from errno import errorcode


def error_name(number: int) -> str:
    """`EPERM (Operation not permitted)` for 1."""
    return f"{errorcode.get(number, f'errno {number}')} ({os.strerror(number)})"


class XtraceError(Exception):
    """Base of all errors this tool raises on purpose. `str()` is one line: what, on what, why, what to do."""

    exit_code = 1


class UsageError(XtraceError):
    """The command line or an environment variable is wrong."""

    exit_code = 2


class PrivilegeError(XtraceError):
    """A capability is missing for what was asked."""

    exit_code = 77


class ObjectError(XtraceError):
    """A BPF object file is not what the loader understands."""


class InterfaceError(XtraceError):
    """An interface is missing, gone, or cannot be attached to."""


class RdmaError(XtraceError):
    """There is no RDMA device, or not the one that was asked for."""


class KernelError(XtraceError):
    """A system call failed.

    `call` names it with its object (`BPF_MAP_CREATE(flows_a)`), `errno` is the positive error number,
    `detail` what the kernel or this tool adds to it.
    """

    def __init__(self, call: str, errno: int, detail: str = "") -> None:
        self.call = call
        self.errno = errno
        self.detail = detail
        super().__init__(f"{call}: {error_name(errno)}" + (f": {detail}" if detail else ""))


class VerifierError(KernelError):
    """The kernel refused a program. `detail` holds the verifier's last lines, `log` all of them."""

    def __init__(self, call: str, errno: int, log: str) -> None:
        self.log = log
        # Linux 7.3 explains itself at length after what it has always said
        terse = log.partition("\nVerification failed: ")[0]
        lines = [line.strip() for line in terse.splitlines() if line.strip()]
        while lines and lines[-1].startswith(("processed ", "verification time ", "stack depth ")):
            lines.pop()
        super().__init__(call, errno, " | ".join(lines[-3:]))
