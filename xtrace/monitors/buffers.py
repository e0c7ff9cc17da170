"""What every mode with two buffers has: types, the switch between the buffers, the grace period."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack

from xtrace.errors import ObjectError, VerifierError
from xtrace.kernel import abi
from xtrace.kernel.bpf import Fd, Map, SharedWord, load_btf
from xtrace.kernel.elf import ObjectSpec

log = logging.getLogger(__name__)


def load_types(spec: ObjectSpec) -> Fd | None:
    """The object's type information, loaded; None where the kernel does not take it."""
    try:
        return load_btf(spec.btf)
    except VerifierError as error:
        log.debug("%s: going on without type information", error)
        return None


class Switch:
    """Says which buffer counts, and waits until the other one is not written to any more (csrc/buffers.h)."""

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

    def flip(self) -> tuple[int, int]:
        """Make the other buffer count; the one that counted, and since when (CLOCK_MONOTONIC ns) it does not."""
        buffer = self._active.load()
        self._active.store(1 - buffer)
        end = time.monotonic_ns()
        self.wait_grace_period()
        return buffer, end

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
