"""SIGHUP in a service, with a service manager's socket: what is said, and that no signal is lost."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.manager import manager_socket
from xtrace.reload import Reload
from xtrace.service import READY, Service
from xtrace.sinks.renewed import Note, Renewed

LIMIT_S = 60


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with manager_socket(tmp_path, LIMIT_S) as made:
        yield made


@pytest.fixture
def service(manager: socket.socket) -> Iterator[Service]:
    with closing(Service({"NOTIFY_SOCKET": manager.getsockname()})) as made:
        yield made


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    """As in a service, from its start on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Files:
    """What is read again, counted."""

    def __init__(self) -> None:
        self.reads = 0
        self.are_good = True
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def make(self, note: Note, before: int | None) -> int:
        note(os.devnull)
        self.may_go_on.wait(LIMIT_S)
        if not self.are_good:
            raise ValueError("of no use")
        self.reads += 1
        return self.reads


def hang_up(reload: Reload) -> None:
    """Send the signal to its thread alone: threads that other tests have left would end this process by it."""
    assert reload._thread.ident
    signal.pthread_kill(reload._thread.ident, signal.SIGHUP)


def answer(manager: socket.socket) -> str:
    """The status after one reload, whose beginning was told before."""
    begun = manager.recv(4096).decode().splitlines()
    assert begun[0] == "RELOADING=1"
    assert begun[1].startswith("MONOTONIC_USEC=") and int(begun[1].partition("=")[2]) > 0
    ready, status = manager.recv(4096).decode().splitlines()
    assert (ready, status[:17]) == (READY, "STATUS=SIGHUP at ")
    return status.partition("Z: ")[2]


def test_everything_is_read_again_and_the_manager_told(manager: socket.socket, service: Service) -> None:
    several = [Files(), Files()]
    with closing(Reload(service, [Renewed("files", files.make) for files in several])) as reload:
        hang_up(reload)
        assert answer(manager) == "certificates and users read anew; settings need a restart"
    assert [files.reads for files in several] == [2, 2]


def test_one_of_no_use_keeps_none_of_the_others_from_being_read(manager: socket.socket, service: Service) -> None:
    bad, good = Files(), Files()
    renewed = [Renewed("files", files.make) for files in (bad, good)]
    bad.are_good = False
    with closing(Reload(service, renewed)) as reload:
        hang_up(reload)
        assert answer(manager) == "new files are of no use, the old ones stay in use; see the log"
    assert good.reads == 2


def test_with_nothing_to_read_that_is_said(
    manager: socket.socket, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with closing(Reload(service, [])) as reload:
        hang_up(reload)
        assert answer(manager) == "nothing to read anew; settings need a restart"
    assert [record.getMessage() for record in caplog.records] == [
        "SIGHUP: no certificates or users in files to read anew (settings: restart the service)"
    ]


def test_signals_while_files_are_read_are_answered_by_reading_them_once_more(
    manager: socket.socket, service: Service
) -> None:
    files = Files()
    renewed = Renewed("files", files.make)
    files.may_go_on.clear()
    with closing(Reload(service, [renewed])) as reload:
        hang_up(reload)
        assert manager.recv(4096).startswith(b"RELOADING=1")
        for _ in range(3):
            hang_up(reload)
        files.may_go_on.set()
        assert manager.recv(4096).startswith(b"READY=1")
        answer(manager)
    assert files.reads == 3
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_files_that_cannot_be_read_for_long_do_not_keep_it_from_ending(
    manager: socket.socket, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrace.reload.CLOSES_WITHIN_S", 0.01)
    files = Files()
    reload = Reload(service, [Renewed("files", files.make)])
    files.may_go_on.clear()
    hang_up(reload)
    assert manager.recv(4096).startswith(b"RELOADING=1")
    reload.close()
    files.may_go_on.set()
    assert manager.recv(4096).startswith(b"READY=1")
    monkeypatch.undo()
    reload.close()
