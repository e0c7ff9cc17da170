"""The seam to the kernel: every system call of the package goes through `call()` or `try_call()`.

`lib` is the compiled shim (csrc/shim.c). Unit tests replace it, so look up its functions when calling them:
`call(what, syscall.lib.xt_map_freeze, fd)`. Its constants do not change, so `lib` may be imported for them.
"""

import signal
from collections.abc import Callable
from errno import EAGAIN, EINTR
from typing import ParamSpec

from xtrace._native import ffi, lib
from xtrace.errors import KernelError

__all__ = ["EAGAIN_RETRIES", "Arguments", "call", "close", "ffi", "lib", "try_call"]

Arguments = ParamSpec("Arguments")

EAGAIN_RETRIES = 5
"""BPF_PROG_LOAD returns EAGAIN if a signal interrupts the verifier, BPF_PROG_TEST_RUN EINTR."""


def try_call(function: Callable[Arguments, int], *arguments: Arguments.args, **named: Arguments.kwargs) -> int:
    """Call a shim function; return its result (>= 0) or -errno.

    Retries EAGAIN and EINTR a few times with signals blocked: those that come in quick succession could interrupt
    every try. They are handled afterwards.
    """
    result = function(*arguments, **named)
    if result in (-EAGAIN, -EINTR):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for _ in range(EAGAIN_RETRIES - 1):
                result = function(*arguments, **named)
                if result not in (-EAGAIN, -EINTR):
                    break
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return result


def call(what: str, function: Callable[Arguments, int], *arguments: Arguments.args, **named: Arguments.kwargs) -> int:
    """Call a shim function. Raises KernelError with `what` (`BPF_MAP_CREATE(flows_a)`) if it fails."""
    result = try_call(function, *arguments, **named)
    if result < 0:
        raise KernelError(what, -result)
    return result


def close(descriptor: int) -> None:
    """Close a descriptor, without a retry: after EINTR its number may already be in use again."""
    lib.xt_close(descriptor)
