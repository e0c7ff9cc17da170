"""Diagnostics on stderr through real pipes, files and terminals: none blocks, and none is lost without a count."""

from __future__ import annotations

import logging
import os
import pty
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.unit.conftest import Pipe
from xtrace.diagnostics import LAST_PATIENCE_S, Diagnostics


@pytest.fixture
def diagnostics(pipe: Pipe) -> Iterator[Diagnostics]:
    """Writes to a pipe that is empty and has a reader."""
    with closing(Diagnostics(pipe.writer)) as made:
        yield made


def record(message: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("xtrace", level, "file.py", 1, message, arguments, None)


def fill(descriptor: int) -> int:
    """Write until there is no room; return the number of bytes."""
    filled = 0
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            filled += os.write(descriptor, bytes(4096))
    os.set_blocking(descriptor, True)
    return filled


def drain(descriptor: int, size: int) -> None:
    while size:
        size -= len(os.read(descriptor, size))


class Room:
    """In place of a poll object: never any room; keeps how long each wait may take, in ms."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.waits.append(timeout)
        return []

    def unregister(self, fd: int) -> None:
        pass


def test_line_is_written_whole_with_its_newline(diagnostics: Diagnostics, pipe: Pipe) -> None:
    diagnostics.handle(record("far0: %s", "gone"))
    assert os.read(pipe.reader, 100) == b"far0: gone\n"


def test_lines_for_a_full_pipe_are_dropped_and_counted_in_the_next_that_fits(
    diagnostics: Diagnostics, pipe: Pipe
) -> None:
    filled = fill(pipe.writer)
    diagnostics.handle(record("lost"))
    diagnostics.handle(record("lost too"))
    drain(pipe.reader, filled)
    diagnostics.handle(record("written"))
    diagnostics.handle(record("again"))
    assert os.read(pipe.reader, 1000) == b"xtrace-catch: stderr was blocked, lines dropped: 2\nwritten\nagain\n"


def test_lines_dropped_last_are_counted_at_the_end(pipe: Pipe) -> None:
    made = Diagnostics(pipe.writer)
    filled = fill(pipe.writer)
    made.handle(record("lost"))
    drain(pipe.reader, filled)
    made.close()
    assert os.read(pipe.reader, 1000) == b"xtrace-catch: stderr was blocked, lines dropped: 1\n"


def test_line_that_fits_in_part_is_ended_before_the_next(diagnostics: Diagnostics, pipe: Pipe) -> None:
    diagnostics.handle(record("x" * 1_000_000))
    torn = os.read(pipe.reader, 1 << 20)
    assert set(torn) == {ord("x")}
    diagnostics.handle(record("next"))
    assert os.read(pipe.reader, 1000) == b"\nxtrace-catch: stderr was blocked, lines dropped: 1\nnext\n"


def test_long_line_for_a_reader_that_reads_is_not_dropped(diagnostics: Diagnostics, pipe: Pipe) -> None:
    data = bytearray()

    def read() -> None:
        while not data.endswith(b"\n"):
            data.extend(os.read(pipe.reader, 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    diagnostics.handle(record("x" * 1_000_000))
    reader.join()
    assert data == b"x" * 1_000_000 + b"\n"


def test_only_the_first_blocked_line_waits_and_the_last_ones_again(
    diagnostics: Diagnostics, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room()
    monkeypatch.setattr(diagnostics, "_poll", room)
    for _ in range(3):
        diagnostics.handle(record("lost"))
    assert 0 < room.waits[0] <= 100
    assert room.waits[1:] == [0, 0]
    diagnostics.be_patient()
    diagnostics.handle(record("lost"))
    assert 100 < room.waits[3] <= 1000 == LAST_PATIENCE_S * 1000


def test_pipe_stays_blocking_for_the_others_that_have_it(diagnostics: Diagnostics, pipe: Pipe) -> None:
    fill(pipe.writer)
    diagnostics.handle(record("lost"))
    assert os.get_blocking(pipe.writer)


def test_terminal_that_is_stopped_blocks_nothing_and_stays_blocking_for_others() -> None:
    master, terminal = pty.openpty()
    try:
        with closing(Diagnostics(terminal)) as made:
            fill(terminal)
            made.handle(record("lost"))
            assert os.get_blocking(terminal)
    finally:
        os.close(master)
        os.close(terminal)


def test_lines_for_a_file_follow_what_others_write_to_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file, closing(Diagnostics(file.fileno())) as made:
        file.write(b"one\n")
        made.handle(record("two"))
        file.write(b"three\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_reader_that_is_gone_is_no_error(diagnostics: Diagnostics, pipe: Pipe) -> None:
    pipe.close_reader()
    diagnostics.handle(record("nobody reads it"))


def test_line_after_the_end_is_dropped(pipe: Pipe) -> None:
    made = Diagnostics(pipe.writer)
    made.close()
    made.handle(record("late"))
    pipe.close_writer()
    assert os.read(pipe.reader, 100) == b""


def test_arguments_that_do_not_match_the_message_end_nothing(diagnostics: Diagnostics, pipe: Pipe) -> None:
    diagnostics.handle(record("%d of %d", "\x1b"))
    written = os.read(pipe.reader, 1000)
    assert written.startswith(b"'%d of %d': TypeError(")


NAMES = ["e\x1b]0;x\x07", "c\x9b1m", "b\u202ex", "l\nforged", "r\rx", b"n\x9b".decode("utf-8", "surrogateescape")]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_in_lines_do_not_act_on_a_terminal(diagnostics: Diagnostics, pipe: Pipe, name: str) -> None:
    diagnostics.handle(record("%s: gone", name))
    written = os.read(pipe.reader, 1000).decode()
    assert written.endswith(": gone\n")
    assert written[:-1].isprintable()


def test_traceback_has_its_lines_and_no_control_characters(diagnostics: Diagnostics, pipe: Pipe) -> None:
    try:
        raise ValueError("of \x1b[31m")
    except ValueError as error:
        failed = record("failed")
        failed.exc_info = (type(error), error, error.__traceback__)
        diagnostics.handle(failed)
    lines = os.read(pipe.reader, 10_000).decode().splitlines()
    assert lines[0] == "failed"
    assert lines[-1] == "ValueError: of ?[31m"
    assert len(lines) > 3
