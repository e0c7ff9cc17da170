"""What unit tests share: a stop request, pipes, outputs, and a kernel to play with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.kernel import paths
from xtrace.model.confinement import CONFINED
from xtrace.sinks.stream import OutputStream
from xtrace.stop import Stop


@pytest.fixture(autouse=True)
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in the tests' own process must not take its privileges, which it cannot get back."""
    monkeypatch.setattr("xtrace.confinement.confine", lambda config, read_again: CONFINED)


@pytest.fixture
def stop() -> Iterator[Stop]:
    """A request to stop that nobody has made yet."""
    made = Stop()
    writable = made._writable
    yield made
    os.close(made.fileno())
    os.close(writable)


class Pipe:
    """A real pipe; either end may be closed by the test."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def close_reader(self) -> None:
        reader, self.reader = self.reader, -1
        if reader >= 0:
            os.close(reader)

    def close_writer(self) -> None:
        writer, self.writer = self.writer, -1
        if writer >= 0:
            os.close(writer)

    def fill(self) -> None:
        """Write until it takes no more."""
        os.set_blocking(self.writer, False)
        for size in (4096, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(self.writer, bytes(size))
        os.set_blocking(self.writer, True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A Pipe, closed afterwards."""
    made = Pipe()
    yield made
    made.close_reader()
    made.close_writer()


@pytest.fixture
def output(stop: Stop, tmp_path: Path) -> Iterator[tuple[OutputStream, Callable[[], bytes]]]:
    """An output stream into a file, and a function that tells what has been written."""
    path = tmp_path / "output"
    with path.open("wb") as file:
        yield OutputStream(file.fileno(), stop), path.read_bytes


@pytest.fixture(autouse=True)
def usual_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """--procfs and --sysfs of one test do not reach the next."""
    monkeypatch.setattr(paths, "_chosen", {})


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """The fake in place of the compiled shim; every descriptor it gave must be closed in the end."""
    fake = FakeKernel()
    monkeypatch.setattr("xtrace.kernel.syscall.lib", fake)
    yield fake
    assert not fake.open, f"descriptors left open: {fake.open}"
