"""Standard output through real pipes: slow readers, readers that are gone, and a request to stop meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.conftest import Pipe
from xtrace.errors import XtraceError
from xtrace.sinks.stream import OutputBlocked, OutputClosed, OutputStream
from xtrace.stop import Stop

LINES = [b"%06d %s\n" % (number, b"x" * (number % 90)) for number in range(20_000)]
"""Many times what a pipe holds."""


class Reader(threading.Thread):
    """Reads a pipe to its end, a little at a time, through a thread of its own."""

    def __init__(self, fd: int, size: int = 777) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self._size = size
        self.data = b""

    def run(self) -> None:
        parts = []
        while part := os.read(self._fd, self._size):
            parts.append(part)
        self.data = b"".join(parts)


def test_stream_is_ready_while_there_is_room(pipe: Pipe, stop: Stop) -> None:
    stream = OutputStream(pipe.writer, stop)
    assert stream.is_ready()
    pipe.fill()
    assert not stream.is_ready()


def test_slow_reader_gets_everything_in_order(pipe: Pipe, stop: Stop) -> None:
    reader = Reader(pipe.reader)
    reader.start()
    stream = OutputStream(pipe.writer, stop)
    for first in range(0, len(LINES), 1000):
        stream.write(b"".join(LINES[first : first + 1000]))
    pipe.close_writer()
    reader.join()
    assert reader.data == b"".join(LINES)


def test_reader_still_gets_everything_after_a_request_to_stop(pipe: Pipe, stop: Stop) -> None:
    stop.request()
    reader = Reader(pipe.reader, size=65536)
    reader.start()
    OutputStream(pipe.writer, stop).write(b"".join(LINES))
    pipe.close_writer()
    reader.join()
    assert reader.data == b"".join(LINES)


def test_blocked_output_is_given_up_after_a_request_and_says_how_many_records(
    pipe: Pipe, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrace.stop.GRACE_S", 0.01)
    pipe.fill()
    stop.request()
    with pytest.raises(OutputBlocked) as caught:
        OutputStream(pipe.writer, stop).write(b"one\ntwo\nthree\n")
    assert str(caught.value) == (
        "standard output: still blocked 2 s after the request to stop, records dropped: 3,"
        " and all later ones; read faster, or write to a file"
    )
    assert caught.value.exit_code == 1


def test_records_that_were_written_are_not_said_to_be_dropped(
    pipe: Pipe, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrace.stop.GRACE_S", 0.0)
    stop.request()
    with pytest.raises(OutputBlocked) as caught:
        OutputStream(pipe.writer, stop).write(b"".join(LINES))
    pipe.close_writer()
    reader = Reader(pipe.reader, size=65536)
    reader.run()
    assert b"".join(LINES).startswith(reader.data)
    complete = reader.data.count(b"\n")
    assert 0 < complete < len(LINES)
    assert f"records dropped: {len(LINES) - complete}," in str(caught.value)


def test_request_to_stop_wakes_a_blocked_write(pipe: Pipe, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrace.stop.GRACE_S", 0.01)
    pipe.fill()
    stream = OutputStream(pipe.writer, stop)
    wait = stream._wakeup.poll

    def requested_meanwhile() -> list[tuple[int, int]]:
        stop.request()
        woken = wait(5000)
        assert woken, "still asleep"
        return woken

    monkeypatch.setattr(stream, "_wakeup", SimpleNamespace(poll=requested_meanwhile))
    with pytest.raises(OutputBlocked, match="records dropped: 1,"):
        stream.write(b"one\n")


def test_blocked_write_waits_as_long_as_is_left(pipe: Pipe, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    stop.request()
    monkeypatch.setattr(stop, "seconds_left", lambda: 1.5)
    stream = OutputStream(pipe.writer, stop)
    monkeypatch.setattr(stream, "_poll", SimpleNamespace(poll=waited.append))
    with pytest.raises(OutputBlocked):
        stream.write(b"one\n")
    assert waited == [1500]


@pytest.mark.parametrize("full", [False, True])
def test_reader_that_is_gone_is_an_ordinary_end(full: bool, pipe: Pipe, stop: Stop) -> None:
    if full:
        pipe.fill()
    pipe.close_reader()
    with pytest.raises(OutputClosed) as caught:
        OutputStream(pipe.writer, stop).write(b"one\n")
    assert caught.value.exit_code == 0


def test_reader_that_goes_while_output_is_blocked_is_an_ordinary_end(pipe: Pipe, stop: Stop) -> None:
    pipe.fill()
    leaving = threading.Thread(target=pipe.close_reader)
    leaving.start()
    with pytest.raises(OutputClosed):
        OutputStream(pipe.writer, stop).write(b"one\n")
    leaving.join()


def test_full_disk_is_named(stop: Stop) -> None:
    with Path("/dev/full").open("wb") as full, pytest.raises(XtraceError) as caught:
        OutputStream(full.fileno(), stop).write(b"one\n")
    assert str(caught.value) == "standard output: No space left on device"
    assert caught.value.exit_code == 1


def test_nothing_to_write_does_not_wait(pipe: Pipe, stop: Stop) -> None:
    pipe.fill()
    OutputStream(pipe.writer, stop).write(b"")


def test_stream_leaves_its_descriptor_open(pipe: Pipe, stop: Stop) -> None:
    stream = OutputStream(pipe.writer, stop)
    assert stream.fileno() == pipe.writer
    del stream
    os.write(pipe.writer, b"still open\n")
    assert os.read(pipe.reader, 100) == b"still open\n"
