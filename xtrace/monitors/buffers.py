"""Double buffering: programs count into one buffer while the other is read (csrc/buffers.h).

An interval ends with a flip and a grace period; only then is its buffer read. The last interval ends when everything
is detached; after a grace period both buffers are read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from xtrace.errors import ObjectError
from xtrace.kernel import abi
from xtrace.kernel.bpf import Batch, Map, SharedWord


class Ended(NamedTuple):
    """A finished interval."""

    monotonic_ns: int
    """CLOCK_MONOTONIC at its end"""
    buffers: tuple[int, ...]
    """the buffers that hold its counts (0 is A, 1 is B); no program writes to them any more"""


class Table(Protocol):
    """The table of one buffer. It is drained while it belongs to user space."""

    def drain_into(self, batch: Batch) -> int:
        """Move all entries to the end of the caller's `batch`; return their number."""

    def memory(self) -> int:
        """Return the bytes of kernel memory charged for it."""


class Switch:
    """Selects the active buffer, and waits until no program writes to the other one."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self.grace_ns = 0
        """duration of the last grace period"""
        self._grace = maps["grace"]
        inner = self._grace.spec.inner
        if inner is None:
            raise ObjectError("map grace has no inner map")
        with ExitStack() as opening:
            self._element = opening.enter_context(Map.create(inner))
            self._active = SharedWord(maps["active"])
            opening.callback(self._active.close)
            self._owned = opening.pop_all()

    @property
    def inactive(self) -> int:
        """The buffer that no program writes to."""
        return 1 - self._active.load()

    def flip(self) -> Ended:
        """Make the other buffer active and wait for a grace period."""
        buffer = self._active.load()
        self._active.store(1 - buffer)
        end = time.monotonic_ns()
        self.wait_grace_period()
        return Ended(end, (buffer,))

    def finish(self) -> Ended:
        """End the last interval. All programs must be detached."""
        end = time.monotonic_ns()
        self.wait_grace_period()
        return Ended(end, (0, 1))

    def wait_grace_period(self) -> None:
        """Wait until every program that is running now has ended: this update calls synchronize_rcu()."""
        begun = time.monotonic_ns()
        self._grace.update(abi.U32.pack(0), abi.U32.pack(self._element.fileno()))
        self.grace_ns = time.monotonic_ns() - begun

    def close(self) -> None:
        """Release the mapping and the map."""
        self._owned.close()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
