"""The guardian of a terminal: it acts when its process is killed, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.tool import eventually
from tests.support.net import TIMEOUT_S, read_until
from tests.support.terminal import Terminal
from xtrace.errors import KernelError
from xtrace.kernel.guardian import Guardian

LEAVE = b"\x1b[?1049l"
LIBC_OWN = (32, 33)
"""Signals that sigfillset() leaves out."""

USES_A_TERMINAL = """
import os, sys
from xtrace.sinks.live.terminal import Terminal
from xtrace.sinks.stream import OutputStream
from xtrace.stop import Stop
others = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
terminal = Terminal(0, OutputStream(0, Stop()))
terminal.enter()
print(terminal._guardian._pid, flush=True)
os.read(0, 1)
"""

CANNOT_CLOSE = """
import ctypes, errno, os, struct, termios
from xtrace.kernel.guardian import Guardian
CLOSE_RANGE, NO_NEW_PRIVS, SECCOMP, FILTER = 436, 38, 22, 2
LOAD, EQUAL, RETURN, ERRNO, ALLOW = 0x20, 0x15, 0x06, 0x50000, 0x7FFF0000
program = struct.pack("=" + 4 * "HBBI", LOAD, 0, 0, 0, EQUAL, 0, 1, CLOSE_RANGE, RETURN, 0, 0, ERRNO | errno.EPERM,
                      RETURN, 0, 0, ALLOW)
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
assert not libc.prctl(SECCOMP, FILTER, struct.pack("@HP", 4, ctypes.addressof(buffer)), 0, 0)
guardian = Guardian(0, 0, termios.tcgetattr(0), b"x")
os.waitid(os.P_PID, guardian._pid, os.WEXITED | os.WNOWAIT)
guardian.dismiss()
print("gone", flush=True)
"""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal that is closed by all: the end of the test waits for whoever has it open."""
    opened = Terminal()
    yield opened
    opened.close()


def started(terminal: Terminal) -> tuple[subprocess.Popen[bytes], int]:
    """A process that uses the terminal as the view does, and its guardian's process id."""
    process = subprocess.Popen([sys.executable, "-c", USES_A_TERMINAL], stdin=terminal.theirs, stdout=subprocess.PIPE)
    guardian = int(read_until(process.stdout, b"\n"))
    terminal.until(lambda screen: screen.is_alternate)
    return process, guardian


def wait_until_it_waits(guardian: int) -> None:
    """Until it reads from the pipe: it has then closed and forgotten all that it will."""
    assert eventually(lambda: "State:\tS" in Path(f"/proc/{guardian}/status").read_text())


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(TIMEOUT_S)
    assert process.stdout is not None
    process.stdout.close()


def test_terminal_of_a_killed_process_is_as_it_was(terminal: Terminal) -> None:
    before = terminal.modes()
    process, _ = started(terminal)
    assert terminal.modes() != before
    killed(process)
    terminal.until(lambda screen: not screen.is_alternate)
    assert terminal.modes() == before


def as_zsh(modes: list[Any]) -> None:
    """Its line editor: the view's modes, and Ctrl-Z is off, too."""
    modes[6][termios.VSUSP] = b"\0"


def as_readline(modes: list[Any]) -> None:
    """Echo and lines off, Ctrl-\\ as ever."""
    modes[6][termios.VQUIT] = b"\x1c"
    modes[0] &= ~termios.ICRNL


def with_other_output(modes: list[Any]) -> None:
    modes[1] ^= termios.ONLCR


def with_other_control(modes: list[Any]) -> None:
    modes[2] ^= termios.HUPCL


def with_other_input(modes: list[Any]) -> None:
    modes[0] ^= termios.IXON


@pytest.mark.parametrize("change", [as_zsh, as_readline, with_other_output, with_other_control, with_other_input])
def test_modes_that_somebody_else_has_set_since_stay(terminal: Terminal, change: Callable[[list[Any]], None]) -> None:
    process, _ = started(terminal)
    modes = terminal.modes()
    change(modes)
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, modes)
    changed = terminal.modes()
    killed(process)
    terminal.until(lambda screen: not screen.is_alternate)
    assert terminal.modes() == changed and not changed[3] & termios.ICANON


def test_it_keeps_nothing_of_its_process_and_no_signal_of_the_keyboard_reaches_it(terminal: Terminal) -> None:
    process, guardian = started(terminal)
    wait_until_it_waits(guardian)
    held = Path(f"/proc/{guardian}")
    assert len(list((held / "fd").iterdir())) == 2, "the terminal and the pipe"
    assert "[heap]" not in (held / "maps").read_text()
    assert os.getpgid(guardian) == guardian
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, *LIBC_OWN):
        os.kill(guardian, number)
    killed(process)
    terminal.until(lambda screen: not screen.is_alternate)


def test_dismissed_it_is_gone_and_leaves_the_terminal_alone(terminal: Terminal) -> None:
    modes = terminal.modes()
    guardian = Guardian(terminal.theirs, terminal.theirs, terminal.modes(), LEAVE)
    guardian.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(guardian._pid, 0)
    os.write(terminal.theirs, b"next")
    assert terminal.until_shown("next")[0] == "next"
    assert terminal.modes() == modes


def test_killed_it_changes_nothing_for_its_process(terminal: Terminal) -> None:
    guardian = Guardian(terminal.theirs, terminal.theirs, terminal.modes(), LEAVE)
    os.kill(guardian._pid, signal.SIGKILL)
    guardian.dismiss()
    os.write(terminal.theirs, b"next")
    assert terminal.until_shown("next")[0] == "next"


def test_stopped_it_is_dismissed_all_the_same(terminal: Terminal) -> None:
    guardian = Guardian(terminal.theirs, terminal.theirs, terminal.modes(), LEAVE)
    os.kill(guardian._pid, signal.SIGSTOP)
    os.waitid(os.P_PID, guardian._pid, os.WSTOPPED | os.WNOWAIT)
    guardian.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(guardian._pid, 0)


def test_one_that_may_not_close_descriptors_ends_at_once(terminal: Terminal) -> None:
    process = subprocess.Popen([sys.executable, "-c", CANNOT_CLOSE], stdin=terminal.theirs, stdout=subprocess.PIPE)
    try:
        assert read_until(process.stdout, b"\n") == b"gone\n"
    finally:
        killed(process)


def test_what_is_no_terminal_needs_no_guardian(terminal: Terminal) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with Path("/dev/null").open() as null, pytest.raises(KernelError, match="starting a guardian"):
        Guardian(null.fileno(), null.fileno(), terminal.modes(), LEAVE)
    assert set(Path("/proc/self/fd").iterdir()) == before
