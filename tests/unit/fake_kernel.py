"""A kernel for tests: plays the functions of csrc/shim.c, with answers of the test's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import ENOENT, ENOSPC
from functools import partial
from typing import Any

from xtrace.kernel.syscall import ffi

Answer = int | Callable[..., int]

OPENERS = frozenset(
    {"xt_map_create", "xt_prog_load", "xt_btf_load", "xt_link_create", "xt_prog_get_fd_by_id", "xt_netlink_open"}
)
FIRST_FD = 1000
"""Beyond any descriptor of the test's own process."""


class FakeKernel:
    """Answers 0, or a new descriptor, unless told otherwise; remembers what was called and what is open."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: list[tuple[Any, ...]] = []
        self.open: set[int] = set()
        self._answers: dict[str, list[Answer]] = {}
        self._next = FIRST_FD

    def answer(self, function: str, *answers: Answer) -> None:
        """What `function` returns, call by call; the last answer stays. 0 of an opener is a new descriptor."""
        self._answers[function] = list(answers)

    def arguments_of(self, function: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of `function`."""
        return [given for name, given in zip(self.calls, self.arguments, strict=True) if name == function]

    def __getattr__(self, function: str) -> Callable[..., int]:
        if not function.startswith("xt_"):
            raise AttributeError(function)
        return partial(self._call, function)

    def _call(self, function: str, *arguments: Any) -> int:
        self.calls.append(function)
        self.arguments.append(arguments)
        waiting = self._answers.get(function, [0])
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        result = answer(*arguments) if callable(answer) else answer
        if function == "xt_close":
            self.open.remove(arguments[0])
        if function in OPENERS and result >= 0:
            self._next += 1
            self.open.add(self._next)
            return self._next
        return result


class FakeHash:
    """A hash map whose buckets are drained as __htab_map_lookup_and_delete_batch() does (kernel/bpf/hashtab.c)."""

    def __init__(self, buckets: Sequence[Sequence[tuple[bytes, bytes]]]) -> None:
        self.buckets = [list(bucket) for bucket in buckets]

    def drain(self, fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any) -> int:
        """xt_map_lookup_and_delete_batch: whole buckets, as many as there is room for; ENOENT after the last."""
        room, count[0] = count[0], 0
        if not room:
            return 0
        at = 0 if in_batch == ffi.NULL else in_batch[0]
        taken: list[tuple[bytes, bytes]] = []
        while at < len(self.buckets) and len(taken) + len(self.buckets[at]) <= room:
            taken += self.buckets[at]
            self.buckets[at] = []
            at += 1
        out_batch[0] = at
        if at < len(self.buckets) and not taken:
            return -ENOSPC
        for target, column in ((keys, [k for k, _ in taken]), (values, [v for _, v in taken])):
            ffi.memmove(target, b"".join(column), sum(map(len, column)))
        count[0] = len(taken)
        return -ENOENT if at == len(self.buckets) else 0
