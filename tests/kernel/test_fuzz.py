"""Whatever comes passes unchanged and is counted once, with its whole length.

XTRACE_FUZZ_FRAMES says how many frames each program gets, half of them damaged and half random bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from tests.kernel.counter import TC, XDP, Counter
from tests.kernel.damage import MAKERS, Maker, frames_for
from xtrace.kernel.bpf import Program
from xtrace.kernel.syscall import ffi, lib, try_call
from xtrace.model.flow import PacketCount

FRAMES = int(os.environ.get("XTRACE_FUZZ_FRAMES", "200000"))
IN_ONE_INTERVAL = 50_000
COMPARED = 12_000
"""Frames of each maker, at each hook, that are compared with the reference parser."""

EVERY_MAKER = pytest.mark.parametrize("make", MAKERS)
BOTH_PROGRAMS = pytest.mark.parametrize("any_hook", [(XDP, False), (TC, False)], ids=[XDP, TC], indirect=True)


class Runner:
    """BPF_PROG_TEST_RUN with its buffers made once."""

    ROOM = 1024

    def __init__(self, program: Program) -> None:
        self._request = ffi.new("struct xt_test_run *")
        self._frame, self._out = ffi.new("char[]", self.ROOM), ffi.new("char[]", self.ROOM)
        self._bytes_out = ffi.buffer(self._out)
        self._request.prog_fd, self._request.repeat = program.fileno(), 1
        self._request.data_in, self._request.data_out = self._frame, self._out

    def run(self, frame: bytes) -> tuple[int, bytes]:
        """The verdict, and the frame afterwards."""
        request, length = self._request, len(frame)
        ffi.memmove(self._frame, frame, length)
        request.data_size_in, request.data_size_out = length, self.ROOM
        result = try_call(lib.xt_prog_test_run, request)
        assert result == 0, f"{result}: {frame.hex()}"
        return request.retval, self._bytes_out[: request.data_size_out]


def run_all(counter: Counter, frames: Iterator[bytes]) -> PacketCount:
    """Let the program see the frames; how many and how long they were."""
    runner, good = Runner(counter.program), counter.verdict
    packets = size = 0
    for frame in frames:
        verdict, after = runner.run(frame)
        assert verdict == good, f"verdict {verdict}: {frame.hex()}"
        assert after == frame, f"changed to {after.hex()}: {frame.hex()}"
        packets += 1
        size += len(frame)
    return PacketCount(packets, size)


@BOTH_PROGRAMS
@EVERY_MAKER
def test_random_frames_pass_unchanged_and_are_all_counted(hook: Counter, make: Maker) -> None:
    share = FRAMES // len(MAKERS)
    flows = 0
    for first in range(0, share, IN_ONE_INTERVAL):
        count = min(IN_ONE_INTERVAL, share - first)
        sent = run_all(hook, frames_for(hook, make, 1000 + first, count))
        interval = hook.take()
        assert sent == interval.total
        assert interval.total.packets == count
        flows += len(interval.flows)
    assert flows > share // 10, "the frames are too much alike to test anything"


def first_miscounted(counter: Counter, frames: Sequence[bytes]) -> bytes:
    """One of `frames` that is wrong by itself, found by halving."""
    while len(frames) > 1:
        half = frames[: len(frames) // 2]
        frames = half if counter.measure(half).sums != counter.expected(half) else frames[len(half) :]
    return frames[0]


@BOTH_PROGRAMS
@EVERY_MAKER
def test_random_frames_are_counted_as_the_reference_parser_says(hook: Counter, make: Maker) -> None:
    frames = list(frames_for(hook, make, 1, COMPARED))
    sums = hook.measure(frames).sums
    if sums != hook.expected(frames):
        wrong = first_miscounted(hook, frames)
        pytest.fail(f"{wrong.hex()}: {hook.parse(wrong)}, but counted as {hook.measure([wrong]).sums}")
    assert len(sums) > COMPARED // 10, "the frames are too much alike to test anything"
