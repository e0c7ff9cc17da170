"""The seam to the kernel: every system call of the package goes through `call()`.

`lib` is the compiled shim (csrc/shim.c). Unit tests put a fake in its place, so its functions are looked up here
when they are called: `call(what, syscall.lib.xt_map_freeze, fd)`. Its constants do not change, so `lib` may be
imported for them.
"""

from collections.abc import Callable
from errno import EAGAIN, EINTR
from typing import ParamSpec

from xtrace._native import ffi, lib
from xtrace.errors import KernelError

__all__ = ["EAGAIN_RETRIES", "Arguments", "call", "close", "ffi", "lib", "try_call"]

Arguments = ParamSpec("Arguments")

EAGAIN_RETRIES = 5
"""BPF_PROG_LOAD returns EAGAIN when a signal interrupts the verifier; a few more tries are normal."""


def try_call(function: Callable[Arguments, int], *arguments: Arguments.args, **named: Arguments.kwargs) -> int:
    """Call a shim function; the result (>= 0) or -errno. EAGAIN and EINTR are retried a few times."""
    for _ in range(EAGAIN_RETRIES):
        result = function(*arguments, **named)
        if result not in (-EAGAIN, -EINTR):
            break
    return result


def call(what: str, function: Callable[Arguments, int], *arguments: Arguments.args, **named: Arguments.kwargs) -> int:
    """Call a shim function, raising KernelError for `what` (`BPF_MAP_CREATE(flows_a)`) if it fails."""
    result = try_call(function, *arguments, **named)
    if result < 0:
        raise KernelError(what, -result)
    return result


def close(descriptor: int) -> None:
    """Release a descriptor, once: after an interruption its number may already be somebody else's."""
    lib.xt_close(descriptor)
