"""Every interval has the calls that began in it, first and last included; a file that comes later has its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.nccl.jobs import of_process, standin, wait_for_probes, watching
from tests.nccl.native import native
from tests.nccl.shown import shown
from tests.netns.tool import bounded
from tests.support.net import of_type

CALLS_PER_SECOND = 1000
MOST_OFF = 40
"""Calls, at one in a millisecond. On an idle machine it is three at most: times have milliseconds. Under load the
tool may lose its CPU between ending an interval and reading the clock; while probes were attached and detached within it, it was
80 and more."""


class Clocked:
    """A process that calls at a steady rate, and knows when it did."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.begin()

    def begin(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def times(self) -> list[int]:
        """End it: when its calls began, in ns of the wall clock."""
        output, _ = self.process.communicate(b"\n")
        return [int(line) for line in output.split()]


@contextmanager
def clocked(library: Path) -> Iterator[Clocked]:
    """A process that calls already."""
    command = [str(native("rate")), str(library), str(CALLS_PER_SECOND)]
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        yield Clocked(process)


def off(record: dict[str, Any], times: list[int]) -> int:
    """By how many a record's calls differ from those that began in its interval."""
    end = datetime.fromisoformat(record["ts"].replace("Z", "+00:00")).timestamp()
    begin: float = end - record["interval_s"]
    return abs(int(record["calls"]) - sum(begin < time / 1e9 <= end for time in times))


def test_first_and_last_interval_have_the_calls_that_began_in_them(way: Mapping[str, str]) -> None:
    with (
        clocked(standin()) as caller,
        shown(caller.process.pid),
        watching("-t", "500ms", variables=dict(way), stdout=subprocess.PIPE) as tool,
    ):
        wait_for_probes(tool)
        for _ in range(3):
            tool.wait_until_it_prints(b'"function":"AllReduce"')
        result = tool.stop()
        found = of_process(of_type(result.records, "nccl_process"), caller.process.pid)
        times = caller.times()
    called = [record for record in found if record["calls"]]
    assert len(called) >= 3
    assert called[-1] == found[-1]
    assert max(off(record, times) for record in called) <= MOST_OFF


def test_a_file_that_is_probed_later_has_its_own_interval(tmp_path: Path) -> None:
    copy = tmp_path / "libnccl.so.2"
    shutil.copy(standin(), copy)
    with watching("-t", "1s", stdout=subprocess.PIPE) as tool:
        tool.wait_until_it_prints(b'"processes":0')
        with clocked(copy) as caller, shown(caller.process.pid):
            wait_for_probes(tool, copy)
            for _ in range(2):
                tool.wait_until_it_prints(b'"processes":1')
            result = tool.stop()
            first = of_process(of_type(result.records, "nccl_process"), caller.process.pid)[0]
            times = caller.times()
    (whole,) = [record for record in of_type(result.records, "nccl") if record["ts"] == first["ts"]]
    assert first["interval_s"] < whole["interval_s"]
    assert off(first, times) <= MOST_OFF
