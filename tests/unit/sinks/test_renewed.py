"""What is made of files is made anew when they change, and stays while the new ones are of no use."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from errno import EACCES
from pathlib import Path

import pytest

from xtrace.errors import UsageError
from xtrace.sinks import renewed as module
from xtrace.sinks.renewed import RETRY_S, SETTLED_S, Note, Renewed, is_settled

STAYS = "; what was read before stays in use"


class Clock:
    """In place of the module time, ahead of it by so many seconds."""

    ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Later than all that a test changes, so that it is settled."""
    made = Clock()
    made.ahead = SETTLED_S
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Pair:
    """Two files that are of use only if they have the same text, which is the value."""

    def __init__(self, one: Path, other: Path) -> None:
        self.one, self.other = one, other
        self.made = 0
        self.meanwhile: Callable[[], object] = lambda: None
        """called between the notes and the reading"""

    def write(self, one: str, other: str | None = None) -> None:
        self.one.write_text(one)
        self.other.write_text(one if other is None else other)

    def make(self, note: Note, before: str | None) -> str:
        self.made += 1
        for file in (self.one, self.other):
            note(str(file))
        self.meanwhile()
        try:
            texts = [file.read_text() for file in (self.one, self.other)]
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from None
        if texts[0] != texts[1]:
            raise UsageError("they do not match")
        return texts[0]

    def renewed(self) -> Renewed[str]:
        return Renewed("pair", self.make)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    made = Pair(tmp_path / "one", tmp_path / "other")
    made.write("old")
    return made


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_files_that_do_not_change_are_read_once(pair: Pair) -> None:
    value = pair.renewed()
    assert [value.current() for _ in range(3)] == ["old"] * 3
    assert (pair.made, value.files) == (1, (str(pair.one), str(pair.other)))


def test_files_of_no_use_at_the_start_are_refused(pair: Pair) -> None:
    pair.write("a", "b")
    with pytest.raises(UsageError, match=r"^they do not match$"):
        pair.renewed()


def test_changed_files_are_read_once_and_said_in_one_line(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    value = pair.renewed()
    pair.write("newer")
    assert [value.current() for _ in range(3)] == ["newer"] * 3
    assert pair.made == 2
    assert said(caplog) == [f"pair: read anew: {pair.one}, {pair.other}"]


def replaced(file: Path, text: str) -> None:
    """Another file takes the place, with the times of the old one."""
    old = file.stat()
    beside = file.with_name("beside")
    beside.write_text(text)
    os.utime(beside, ns=(old.st_atime_ns, old.st_mtime_ns))
    beside.rename(file)


def rewritten(file: Path, text: str) -> None:
    """The same file has another text of the same length, and the old time."""
    old = file.stat()
    file.write_text(text)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, rewritten])
def test_another_file_is_noticed_though_it_is_as_old_and_as_long(
    change: Callable[[Path, str], None], pair: Pair
) -> None:
    value = pair.renewed()
    for file in (pair.one, pair.other):
        change(file, "new")
    assert value.current() == "new"


def test_a_link_to_a_directory_that_is_swapped_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes updates the files of a secret: file -> ..data/file, ..data -> ..DATE."""
    for name in ("old", "new"):
        directory = tmp_path / f"..{name}"
        directory.mkdir()
        Pair(directory / "one", directory / "other").write(name)
    (tmp_path / "..data").symlink_to("..old")
    pair = Pair(tmp_path / "one", tmp_path / "other")
    for file in (pair.one, pair.other):
        file.symlink_to(f"..data/{file.name}")
    value = pair.renewed()
    assert value.current() == "old"
    (tmp_path / "..data_tmp").symlink_to("..new")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..old")
    assert value.current() == "new"


def test_what_was_read_before_stays_while_new_files_are_of_no_use(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    value = pair.renewed()
    assert not value.is_outdated
    pair.write("new", "half")
    assert [value.current() for _ in range(3)] == ["old"] * 3
    assert value.is_outdated
    assert said(caplog) == [f"they do not match{STAYS}"]
    pair.other.write_text("half of another")
    assert [value.current() for _ in range(3)] == ["old"] * 3
    assert said(caplog) == [f"they do not match{STAYS}"], "another change"
    pair.one.unlink()
    assert [value.current() for _ in range(3)] == ["old"] * 3
    assert said(caplog) == [f"{pair.one}: No such file or directory{STAYS}"]
    pair.write("new")
    assert value.current() == "new"
    assert not value.is_outdated
    assert said(caplog) == [f"pair: read anew: {pair.one}, {pair.other}"]


def test_a_file_that_comes_back_as_it_was_is_of_use_again(pair: Pair) -> None:
    value = pair.renewed()
    pair.one.rename(pair.one.with_name("aside"))
    assert value.current() == "old" and value.is_outdated
    pair.one.with_name("aside").rename(pair.one)
    assert value.current() == "old" and not value.is_outdated


def test_a_file_that_may_not_be_read_is_told_with_what_the_run_has_given_up(
    pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = pair.renewed()
    pair.write("new")
    reading = Path.read_text

    def refuse(path: Path) -> str:
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert value.current() == "old"
    (line,) = said(caplog)
    assert line.startswith(f"{pair.one}: Permission denied{STAYS} (after the start only files that the run's user may")
    monkeypatch.setattr(Path, "read_text", reading)
    assert value.renew() and value.current() == "new"


def test_files_that_were_changed_just_now_are_left_alone(pair: Pair, clock: Clock) -> None:
    value = pair.renewed()
    pair.write("new")
    clock.ahead = 0.0
    assert value.current() == "old" and pair.made == 1
    pair.one.unlink()
    assert value.current() == "old" and pair.made == 1, "another may follow it"
    pair.write("new")
    clock.ahead = SETTLED_S
    assert value.current() == "new" and pair.made == 2


def test_a_clock_that_was_set_back_does_not_keep_new_files_out(pair: Pair, clock: Clock) -> None:
    value = pair.renewed()
    pair.write("new")
    clock.ahead = -3600.0
    assert value.current() == "new"


@pytest.mark.parametrize("path", ["/nonexistent/for/sure", "a\0b"])
def test_what_is_nowhere_is_settled(path: str) -> None:
    assert is_settled(path)


def test_on_request_files_are_read_at_once_whether_or_not_they_have_changed(
    pair: Pair, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    value = pair.renewed()
    clock.ahead = 0.0
    assert value.renew()
    pair.write("new")
    assert value.renew() and value.current() == "new"
    assert said(caplog) == [f"pair: read anew: {pair.one}, {pair.other}"] * 2
    pair.write("a", "b")
    assert [value.renew(), value.renew()] == [False, False]
    assert said(caplog) == [f"they do not match{STAYS}"] * 2, "each request has its answer"
    assert value.current() == "new"


def test_what_changes_while_it_is_read_is_read_again(pair: Pair) -> None:
    value = pair.renewed()
    pair.write("new")
    pair.meanwhile = lambda: pair.write("newest") if pair.made == 2 else None
    value.current()
    assert value.current() == "newest"
    assert pair.made == 3


def test_a_failure_that_is_not_the_files_passes(
    pair: Pair, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = pair.renewed()
    pair.write("new")

    def fail() -> None:
        raise MemoryError("no room")

    pair.meanwhile = fail
    assert [value.current(), value.current()] == ["old", "old"]
    assert pair.made == 2
    clock.ahead += RETRY_S
    assert value.current() == "old" and pair.made == 3
    assert said(caplog) == [f"no room{STAYS}"], "once"
    pair.meanwhile = lambda: None
    clock.ahead += RETRY_S
    assert value.current() == "new"


def test_many_threads_read_a_change_once(pair: Pair) -> None:
    value = pair.renewed()
    pair.write("new")
    here = threading.Barrier(8)
    found: list[str] = []

    def look() -> None:
        here.wait()
        found.append(value.current())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pair.made == 2
    assert value.current() == "new"


def test_a_retry_is_due_though_another_thread_succeeds_meanwhile(
    pair: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = pair.renewed()
    pair.write("new", "half")
    assert value.current() == "old" and value.is_outdated
    pair.write("new")

    def succeed_meanwhile() -> float:
        monkeypatch.undo()
        assert value.renew()
        return time.monotonic()

    monkeypatch.setattr(clock, "monotonic", succeed_meanwhile)
    assert value.current() == "new"


class Pipe:
    """A named pipe that was written to once, with the text as the value."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        os.mkfifo(path)

    def write(self) -> None:
        self.path.write_text(self.text)

    def make(self, note: Note, before: str | None) -> str:
        note(str(self.path))
        if before is None:
            threading.Thread(target=self.write).start()  # after the note
        return self.path.read_text()


def test_a_pipe_is_read_once_and_never_waited_for_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = Pipe(tmp_path / "pipe", "text")
    value = Renewed("pipe", pipe.make)
    assert value.current() == "text" and not value.is_outdated
    assert said(caplog) == []
    assert not value.renew()
    assert value.current() == "text"
    assert said(caplog) == [f"pipe: {pipe.path}: a pipe cannot be read again (use a file, or restart){STAYS}"]
