"""Stacks of threads, on this kernel: a child that sleeps in a known place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xtrace.kernel import stacks

SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_threads_of_a_process_have_the_times_they_started(sleeper: subprocess.Popen[bytes]) -> None:
    started = int(Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert stacks.threads(sleeper.pid) == {sleeper.pid: started}
    assert stacks.threads(1 << 30) == {}


def test_a_thread_that_is_gone_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for thread in (8, 9):
        (tmp_path / f"7/task/{thread}").mkdir(parents=True)
    (tmp_path / "7/task/9/stat").write_text("9 (a) b) " + " ".join(map(str, range(30))))
    monkeypatch.setattr(stacks, "procfs", lambda: tmp_path)
    assert stacks.threads(7) == {9: 19}


def test_the_stack_of_a_thread_that_sleeps_can_be_read(sleeper: subprocess.Popen[bytes]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs ptrace access")
    end = None
    while end is None:  # it runs until it sleeps
        end = stacks.stack_pointer(sleeper.pid, sleeper.pid)
    maps = Path(f"/proc/{sleeper.pid}/maps").read_text().splitlines()
    (stack,) = (line.split()[0] for line in maps if line.endswith("[stack]"))
    first, last = (int(bound, 16) for bound in stack.split("-"))
    assert first <= end < last
    with stacks.memory_of(sleeper.pid) as memory:
        assert len(memory.read(end, 8)) == 8
        assert len(memory.read(last - 8, 64)) == 8, "it ends there"
        assert memory.read(0, 8) == b""
        assert memory.read(1 << 64, 8) == b""


@pytest.mark.parametrize(
    "text, expected",
    [("running", None), ("0 0x3 0x1 0x2 0x0 0x0 0x0 0x7ffe10 0x401000", 0x7FFE10), ("-1 0x7ffe20 0x401000", 0x7FFE20)],
)
def test_where_a_stack_ends_is_said_unless_the_thread_runs(
    text: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7/task/7").mkdir(parents=True)
    (tmp_path / "7/task/7/syscall").write_text(f"{text}\n")
    monkeypatch.setattr(stacks, "procfs", lambda: tmp_path)
    assert stacks.stack_pointer(7, 7) == expected
