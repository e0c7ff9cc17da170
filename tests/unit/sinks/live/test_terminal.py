"""What is written to a terminal, byte by byte."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from xtrace.sinks.live.terminal import BEGIN, CLEAR, ENTER, FINISH, LEAVE, Size, Terminal
from xtrace.sinks.stream import OutputStream

Output = tuple[OutputStream, Callable[[], bytes]]


@pytest.fixture
def terminal(output: Output) -> Iterator[Terminal]:
    """A terminal whose keys come from a pseudoterminal and whose output goes to a file."""
    ours, theirs = pty.openpty()
    with closing(Terminal(theirs, output[0])) as made:
        yield made
    os.close(ours)
    os.close(theirs)


def test_without_a_size_it_is_the_usual_one(terminal: Terminal) -> None:
    assert terminal.size() == Size(rows=24, columns=80)


def test_only_lines_that_changed_are_written(terminal: Terminal, output: Output) -> None:
    _, written = output
    terminal.draw(["a", "b", "c"], (1, 0))
    first = f"{BEGIN}{CLEAR}\x1b[1H\x1b[Ka\x1b[0m\x1b[2H\x1b[Kb\x1b[0m\x1b[3H\x1b[Kc\x1b[0m\x1b[2;1H{FINISH}"
    assert written().decode() == first
    terminal.draw(["a", "x", "c"], (2, 4))
    second = f"{BEGIN}\x1b[2H\x1b[Kx\x1b[0m\x1b[3;5H{FINISH}"
    assert written().decode() == first + second
    terminal.draw(["a", "x", "c"], (0, 0))
    assert written().decode() == f"{first}{second}{BEGIN}\x1b[1;1H{FINISH}"


def test_fewer_lines_leave_nothing_of_those_before(terminal: Terminal, output: Output) -> None:
    terminal.draw(["a", "b"], (0, 0))
    before = output[1]()
    terminal.draw(["a"], (0, 0))
    assert output[1]()[len(before) :].decode() == f"{BEGIN}{CLEAR}\x1b[1H\x1b[Ka\x1b[0m\x1b[1;1H{FINISH}"


def test_it_is_left_once_and_only_if_it_was_entered(terminal: Terminal, output: Output) -> None:
    terminal.leave()
    assert output[1]() == b""
    terminal.enter()
    terminal.leave()
    terminal.leave()
    assert output[1]().decode() == ENTER + LEAVE
