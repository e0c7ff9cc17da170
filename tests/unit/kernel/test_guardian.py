"""The guardian of a terminal: it acts when its process is killed, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.net import TIMEOUT_S, read_until
from tests.support.terminal import Terminal
from xtrace.errors import KernelError
from xtrace.kernel.guardian import Guardian

LEAVE = b"\x1b[?1049lgiven back"

USES_A_TERMINAL = """
import os, sys, termios
from xtrace.kernel.guardian import Guardian
others = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
guardian = Guardian(0, 0, sys.argv[1].encode())
modes = termios.tcgetattr(0)
modes[3] &= ~(termios.ICANON | termios.ECHO)
if sys.argv[2] == "as the view does":
    modes[6][termios.VQUIT] = b"\\0"
termios.tcsetattr(0, termios.TCSANOW, modes)
os.write(0, b"\\x1b[?1049h")
print(guardian._pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal that is closed by all: the end of the test waits for whoever has it open."""
    opened = Terminal()
    yield opened
    opened.close()


def started(terminal: Terminal, modes: str) -> tuple[subprocess.Popen[bytes], int]:
    """A process that uses the terminal, and its guardian's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", USES_A_TERMINAL, LEAVE.decode(), modes], stdin=terminal.theirs, stdout=subprocess.PIPE
    )
    guardian = int(read_until(process.stdout, b"\n"))
    terminal.until(lambda screen: screen.is_alternate)
    return process, guardian


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(TIMEOUT_S)
    assert process.stdout is not None
    process.stdout.close()


def test_terminal_of_a_killed_process_is_as_it_was(terminal: Terminal) -> None:
    before = terminal.modes()
    process, _ = started(terminal, "as the view does")
    assert terminal.modes() != before
    killed(process)
    terminal.until(lambda screen: not screen.is_alternate and "given back" in screen.lines()[0])
    assert terminal.modes() == before


def test_modes_that_somebody_else_has_set_since_stay(terminal: Terminal) -> None:
    process, _ = started(terminal, "as a shell does")
    modes = terminal.modes()
    killed(process)
    terminal.until(lambda screen: not screen.is_alternate)
    assert terminal.modes() == modes and not modes[3] & termios.ICANON


def test_it_keeps_nothing_of_its_process_and_no_signal_of_the_keyboard_reaches_it(terminal: Terminal) -> None:
    process, guardian = started(terminal, "as the view does")
    held = Path(f"/proc/{guardian}")
    assert len(list((held / "fd").iterdir())) == 2, "the terminal and the pipe"
    assert "[heap]" not in (held / "maps").read_text()
    assert os.getpgid(guardian) == guardian
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        os.kill(guardian, number)
    killed(process)
    terminal.until(lambda screen: not screen.is_alternate)


def test_dismissed_it_is_gone_and_leaves_the_terminal_alone(terminal: Terminal) -> None:
    modes = terminal.modes()
    guardian = Guardian(terminal.theirs, terminal.theirs, LEAVE)
    guardian.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(guardian._pid, 0)
    os.write(terminal.theirs, b"next")
    assert terminal.until_shown("next")[0] == "next"
    assert terminal.modes() == modes


def test_killed_it_changes_nothing_for_its_process(terminal: Terminal) -> None:
    guardian = Guardian(terminal.theirs, terminal.theirs, LEAVE)
    os.kill(guardian._pid, signal.SIGKILL)
    guardian.dismiss()
    os.write(terminal.theirs, b"next")
    assert terminal.until_shown("next")[0] == "next"


def test_what_is_no_terminal_needs_no_guardian() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with Path("/dev/null").open() as null, pytest.raises(KernelError, match="starting a guardian"):
        Guardian(null.fileno(), null.fileno(), LEAVE)
    assert set(Path("/proc/self/fd").iterdir()) == before
