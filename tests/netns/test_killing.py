"""kill -9 at any moment leaves nothing: the kernel drops the program with the process that held its link."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.netns.load import flooding
from tests.netns.tool import (
    XDP_ON_FAR0,
    assert_passes_traffic,
    attached_program,
    eventually,
    is_loaded,
    launched,
    running,
)
from tests.support.net import Pair, veth_pair

ROUNDS = int(os.environ.get("XTRACE_KILL_ROUNDS", "12"))
MORE_THAN_IS_SENT = 1 << 40


def seconds_to_start(pair: Pair) -> float:
    """How long the tool takes until it is attached."""
    begun = time.monotonic()
    with running(pair.far, *XDP_ON_FAR0):
        return time.monotonic() - begun


def kill_after(pair: Pair, delay_s: float, output: Path) -> int | None:
    """Start the tool, kill it after that long; the program it had attached by then."""
    with output.open("wb") as written, launched(pair.far, *XDP_ON_FAR0, "-t", "100", stdout=written) as tool:
        try:
            tool.process.wait(delay_s)
        except subprocess.TimeoutExpired:
            program = attached_program(pair.far)
            tool.process.kill()
            assert tool.wait().code == -9
            return program
        raise AssertionError(f"the tool ended by itself: {tool.wait().said}")


def test_kill_9_at_any_moment_leaves_no_program_and_a_working_interface(tmp_path: Path) -> None:
    """Moments are spread from the start of the process over attaching to counting and draining a flood."""
    attached = []
    with veth_pair() as pair:
        with flooding(pair, MORE_THAN_IS_SENT, (1,), 4096):
            start_s = seconds_to_start(pair)
            for number in range(ROUNDS):
                program = kill_after(pair, start_s * (0.2 + 2.8 * number / ROUNDS), tmp_path / "output")
                assert eventually(lambda: attached_program(pair.far) is None), "a program stays attached"
                if program is not None:
                    attached.append(program)
                assert_passes_traffic(pair)
        assert eventually(lambda: not any(map(is_loaded, attached)))
    assert 0 < len(attached) < ROUNDS, "the moments were not spread over the whole run"


def test_an_interface_can_be_watched_at_once_after_kill_9() -> None:
    with veth_pair() as pair:
        with running(pair.far, *XDP_ON_FAR0) as tool:
            tool.process.kill()
            assert tool.wait().code == -9
        with running(pair.far, *XDP_ON_FAR0) as tool:
            tool.stop().assert_quiet_success()
