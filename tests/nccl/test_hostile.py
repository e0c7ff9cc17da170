"""What an unprivileged user does costs a job of another user no call, and the tool neither time nor memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.nccl.hostile import NOBODY
from tests.nccl.jobs import HERE, Job, job, operations, standin, total, wait_for_probes, watching
from tests.nccl.shown import shown
from tests.netns.tool import bounded
from tests.support.net import of_type

FLOAT32 = 7
SECONDS = 4.0
LONGEST_S = 3.0
"""Of an interval of one second, on a machine that is busy with other tests; without limits it was up to 19 s."""

MOST_MEMORY = 80 << 20
"""Without limits it was 270 MB."""


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that other users reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="xtrace-hostile-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def hostile(kind: str, number: int, own: Path) -> Iterator[None]:
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    command = [sys.executable, str(HERE / "hostile.py"), kind, str(own), str(number), str(standin())]
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with shown(process.pid):
            yield


def memory(pid: int) -> int:
    """Resident bytes, at most until now."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def call_for_a_while(process: Job) -> int:
    until, calls = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        process.do("AllReduce", "world", 100, FLOAT32)
        calls += 1
    return calls


@pytest.mark.parametrize(
    "kind, number, processes, line",
    [
        ("tables", 4, 2, "symbol tables too large to be searched"),
        ("mappings", 30_000, 1, ""),
        ("copies", 16, 5, "not probed: 64 files are, the most at once"),
        ("copies", 64, 1, "more than 16 files with NCCL's functions"),
        ("answers", 3_000, 1, ""),
        ("pointers", 3_000, 1, "2048 combinations of communicator, function and datatype in one interval"),
    ],
)
def test_another_user_costs_a_job_no_call_and_the_tool_no_time(
    kind: str, number: int, processes: int, line: str
) -> None:
    with ExitStack() as opened:
        scratch = opened.enter_context(directory())
        for i in range(processes):
            opened.enter_context(hostile(kind, number, scratch / str(i)))
        tool = opened.enter_context(watching("-t", "1s"))
        if line:
            tool.wait_until_it_says(line.encode())
        library = scratch / "libnccl.so.2"
        shutil.copy(standin(), library)
        process = opened.enter_context(job(library=library))
        wait_for_probes(tool, library)
        process.do("CommInitRank", "world", 2, 0)
        calls = call_for_a_while(process)
        process.do("AllGather", "world", 10, FLOAT32)
        peak = memory(tool.process.pid)
        begun = time.monotonic()
        result = tool.stop()
        took = time.monotonic() - begun
    assert total(operations(result.records, process.pid), "calls", function="AllReduce") == calls
    # the size of its communicator is still known
    gathered = [found for found in operations(result.records, process.pid) if found["function"] == "AllGather"]
    assert [found["requested_bytes"] for found in gathered if found["calls"]] == [10 * 4 * 2]
    assert max(record["interval_s"] for record in of_type(result.records, "nccl")) < LONGEST_S
    assert peak < MOST_MEMORY
    assert took < LONGEST_S
    check_sums(result.records)


def check_sums(records: Sequence[dict[str, object]]) -> None:
    """What is not with a process is unattributed."""
    seen = sum(record["calls"] or 0 for record in of_type(records, "nccl_process"))
    intervals = of_type(records, "nccl")
    assert seen + total(intervals, "unattributed_calls") == total(intervals, "calls")
