"""What every mode with two buffers has: one counts while the other one is read (csrc/buffers.h).

An interval ends with a flip and a grace period; only then is its buffer read. The last one ends with the grace period
alone, once nothing is attached any more, and both buffers are read.
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
    """An interval that is over."""

    monotonic_ns: int
    """CLOCK_MONOTONIC at its end"""
    buffers: tuple[int, ...]
    """0 is A, 1 is B: those that hold what was counted in it; no program writes to them any more"""


class Table(Protocol):
    """What one buffer counts by key. It is emptied while it belongs to user space."""

    def drain_into(self, batch: Batch) -> int:
        """Move all entries to the end of `batch`, which is the caller's; how many came."""

    def memory(self) -> int:
        """Bytes of kernel memory it is charged for."""


class Switch:
    """Says which buffer counts, and waits until the other one is not written to any more."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self.grace_ns = 0
        """how long the last grace period took"""
        self._grace = maps["grace"]
        inner = self._grace.spec.inner
        if inner is None:
            raise ObjectError("map grace has no inner map")
        with ExitStack() as opening:
            self._element = opening.enter_context(Map.create(inner))
            self._active = SharedWord(maps["active"])
            opening.callback(self._active.close)
            self._owned = opening.pop_all()

    def flip(self) -> Ended:
        """Make the other buffer count, and wait for the grace period."""
        buffer = self._active.load()
        self._active.store(1 - buffer)
        end = time.monotonic_ns()
        self.wait_grace_period()
        return Ended(end, (buffer,))

    def finish(self) -> Ended:
        """End the last interval. No program that counts may be attached any more."""
        end = time.monotonic_ns()
        self.wait_grace_period()
        return Ended(end, (0, 1))

    def wait_grace_period(self) -> None:
        """Return when no program that runs now runs any more: the kernel waits for RCU in this update."""
        begun = time.monotonic_ns()
        self._grace.update(abi.U32.pack(0), abi.U32.pack(self._element.fileno()))
        self.grace_ns = time.monotonic_ns() - begun

    def close(self) -> None:
        """Release the word and the element."""
        self._owned.close()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
