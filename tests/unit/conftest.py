"""What unit tests share: a stop request, pipes, outputs, and a kernel to play with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.sinks.stream import OutputStream
from xtrace.stop import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    """A request to stop that nobody has made yet."""
    made = Stop()
    writable = made._writable
    yield made
    os.close(made.fileno())
    os.close(writable)


class Pipe(NamedTuple):
    """Both ends of a pipe; either may be closed by the test."""

    reader: int
    writer: int


def close_if_open(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A real pipe."""
    ends = Pipe(*os.pipe())
    yield ends
    close_if_open(ends.reader)
    close_if_open(ends.writer)


@pytest.fixture
def output(stop: Stop, tmp_path: Path) -> Iterator[tuple[OutputStream, Callable[[], bytes]]]:
    """An output stream into a file, and a function that tells what has been written."""
    path = tmp_path / "output"
    with ExitStack() as opened:
        file = opened.enter_context(path.open("wb"))
        yield OutputStream(file.fileno(), stop), path.read_bytes


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """The fake in place of the compiled shim; every descriptor it gave must be closed in the end."""
    fake = FakeKernel()
    monkeypatch.setattr("xtrace.kernel.syscall.lib", fake)
    yield fake
    assert not fake.open, f"descriptors left open: {fake.open}"
