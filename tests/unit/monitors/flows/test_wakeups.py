"""One descriptor for changes of interfaces and the check of every second."""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.conftest import Pipe
from xtrace.errors import KernelError
from xtrace.kernel import syscall
from xtrace.monitors.flows.wakeups import Wakeups


class FakeTimer:
    """In place of the shim: a descriptor that reads as a timer's, and expires when the test says so."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.descriptor = -1

    def xt_timerfd(self, period_ns: int) -> int:
        self.asked.append(period_ns)
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        return self.descriptor

    def xt_close(self, descriptor: int) -> int:
        os.close(descriptor)
        return 0

    def expire(self) -> None:
        os.write(self.descriptor, struct.pack("=Q", 1))


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> FakeTimer:
    made = FakeTimer()
    monkeypatch.setattr(syscall, "lib", made)
    return made


@pytest.fixture
def wakeups(timer: FakeTimer, pipe: Pipe) -> Iterator[Wakeups]:
    made = Wakeups(pipe.reader)
    yield made
    made.close()


def is_ready(wakeups: Wakeups) -> bool:
    return bool(select.select([wakeups.fileno()], [], [], 0)[0])


def test_programs_are_checked_every_second(wakeups: Wakeups, timer: FakeTimer) -> None:
    assert timer.asked == [1_000_000_000]
    assert not is_ready(wakeups)
    for _ in range(2):
        timer.expire()
        assert is_ready(wakeups)
        wakeups.acknowledge()
        assert not is_ready(wakeups)


def test_change_of_an_interface_wakes_until_it_is_read(wakeups: Wakeups, pipe: Pipe) -> None:
    os.write(pipe.writer, b"x")
    assert is_ready(wakeups)
    wakeups.acknowledge()
    assert is_ready(wakeups)
    os.read(pipe.reader, 1)
    assert not is_ready(wakeups)


def test_nothing_to_acknowledge_is_no_error(wakeups: Wakeups) -> None:
    wakeups.acknowledge()


def test_kernels_own_timer_expires(pipe: Pipe) -> None:
    made = Wakeups(pipe.reader)
    try:
        assert select.select([made.fileno()], [], [], 60)[0]
        made.acknowledge()
    finally:
        made.close()


def test_descriptor_that_cannot_be_waited_for_leaves_nothing_open(timer: FakeTimer, tmp_path: Path) -> None:
    """epoll waits for no plain file."""
    with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
        Wakeups(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(timer.descriptor)


def test_missing_timer_is_an_error_that_names_the_call(monkeypatch: pytest.MonkeyPatch, timer: FakeTimer) -> None:
    monkeypatch.setattr(timer, "xt_timerfd", lambda period_ns: -24)
    with pytest.raises(KernelError, match=r"^timerfd_create: EMFILE"):
        Wakeups(0)
