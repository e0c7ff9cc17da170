"""What is written to a terminal, byte by byte."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.terminal import kernels, modes_of
from xtrace.sinks.live import terminal as module
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


def test_the_guardian_knows_both_ends_the_modes_and_how_to_leave(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and output may be different files; the modes are those that the view sets, with echo and Ctrl-S off."""
    given: list[Any] = []

    class Noted:
        def __init__(self, *arguments: Any) -> None:
            given.extend(arguments)

        def dismiss(self) -> None:
            given.append("dismissed")

    monkeypatch.setattr(module, "Guardian", Noted)
    ours, theirs = pty.openpty()
    before = modes_of(theirs)
    with closing(Terminal(theirs, output[0])) as made:
        made.enter()
        during = modes_of(theirs)
        keyboard, screen, modes, leave = given
        assert (keyboard, screen, leave) == (theirs, output[0].fileno(), LEAVE.encode())
        assert kernels(modes) == during != before
        made.enter()
        assert len(given) == 4, "it goes on after a pause with the one that it has"
        made.leave()
        assert given[4:] == ["dismissed"]
        assert modes_of(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_modes_let_keys_through_one_by_one_and_keep_what_interrupts(output: Output) -> None:
    ours, theirs = pty.openpty()
    with closing(Terminal(theirs, output[0])) as made:
        before = modes_of(theirs)
        made.enter()
        flags, _, _, local, _, _, characters = modes_of(theirs)
        assert flags == before[0] & ~termios.IXON
        assert local == before[3] & ~(termios.ICANON | termios.ECHO) and local & termios.ISIG
        changed = {
            place
            for place in range(len(characters))
            if characters[place] != before[6][place] and place not in (termios.VMIN, termios.VTIME)
        }
        assert changed == {termios.VQUIT} and characters[termios.VQUIT] == b"\0"
        assert [int(characters[place] == wanted) for place, wanted in ((termios.VMIN, 1), (termios.VTIME, 0))] == [1, 1]
    os.close(ours)
    os.close(theirs)


def test_a_key_that_comes_in_parts_is_waited_for(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEQUENCE_MS", 30_000)
    ours, theirs = pty.openpty()
    with closing(Terminal(theirs, output[0])) as made:
        made.enter()
        os.write(ours, b"a\x1b")
        pieces = iter([b"a\x1b", b"[", b"A"])

        def read() -> bytes:
            piece = next(pieces)
            if piece != b"A":
                os.write(ours, b"x")  # there is more to read
            else:
                termios.tcflush(theirs, termios.TCIFLUSH)
            return piece

        monkeypatch.setattr(made, "_read", read)
        assert made.typed() == ["a", "up"]
    os.close(ours)
    os.close(theirs)


def test_bytes_of_names_that_are_no_text_are_written_as_they_are(terminal: Terminal, output: Output) -> None:
    terminal.draw(["e\udcff\u00e4"], (0, 0))
    assert b"e\xff\xc3\xa4" in output[1]()
