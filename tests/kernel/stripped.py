"""A VLAN tag that a NIC takes off the frame (stripped_tag.c)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.build import compile_bpf
from xtrace.kernel import constants
from xtrace.kernel.bpf import Map, Program


@contextmanager
def stripping_before(program: Program) -> Iterator[Program]:
    """A program at tc that moves a tag, given with the frame, to where a NIC puts it, and then runs `program`."""
    spec = compile_bpf(Path(__file__).parent / "stripped_tag.c")
    with ExitStack() as owned:
        chained = owned.enter_context(Map.create(spec.maps["next"]))
        chained.update(bytes(4), struct.pack("=I", program.fileno()))
        yield owned.enter_context(
            Program.prepare(
                spec.programs["strip_tag"],
                {"next": chained},
                prog_type=constants.PROG_TYPE_SCHED_CLS,
                attach_type=0,
            )()
        )
