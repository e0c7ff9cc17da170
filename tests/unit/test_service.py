"""What a service manager is told, on a socket as it has one."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.manager import manager_socket
from xtrace.service import ALIVE, NEVER_NS, READY, STOPPING, Service, reloading, watchdog_ns

MS = 1_000_000


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with manager_socket(tmp_path, 0) as made:
        yield made


def heard(manager: socket.socket) -> list[str]:
    """All datagrams so far."""
    found: list[str] = []
    with suppress(BlockingIOError):
        while True:
            found.append(manager.recv(4096).decode())
    return found


def test_states_arrive_one_by_one(manager: socket.socket) -> None:
    with closing(Service({"NOTIFY_SOCKET": manager.getsockname()})) as service:
        service.say(READY)
        service.say(STOPPING)
    assert heard(manager) == ["READY=1", "STOPPING=1"]


def test_reloading_comes_with_the_time_in_microseconds() -> None:
    assert reloading(1_234_567_890) == "RELOADING=1\nMONOTONIC_USEC=1234567"


def test_what_may_not_be_lost_waits_for_a_manager_that_is_busy(manager: socket.socket) -> None:
    with closing(Service({"NOTIFY_SOCKET": manager.getsockname()})) as service:
        for _ in range(10_000):  # more than its queue holds
            service.say(ALIVE)
        sent = threading.Thread(target=lambda: service.say(READY, waits=True))
        sent.start()
        manager.setblocking(True)
        said = ALIVE
        while said == ALIVE:
            said = manager.recv(4096).decode()
        assert said == READY
        sent.join()


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    name = f"xtrace-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{name}")
        made.setblocking(False)
        with closing(Service({"NOTIFY_SOCKET": f"@{name}"})) as service:
            service.say(READY)
        assert heard(made) == ["READY=1"]


def test_signs_of_life_come_twice_per_period(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    with closing(Service(environment)) as service:
        assert service.beat(5 * MS) == 1000 * MS
        assert heard(manager) == [ALIVE]
        assert service.beat(905 * MS) == 100 * MS
        assert heard(manager) == []
        assert service.beat(1010 * MS) == 1000 * MS
        assert heard(manager) == [ALIVE]


@pytest.mark.parametrize("found", [{}, {"WATCHDOG_USEC": "2000000"}], ids=["nothing", "no socket"])
def test_without_a_manager_nothing_is_sent_or_due(found: dict[str, str]) -> None:
    with closing(Service(found)) as service:
        service.say(READY)
        assert service.beat(0) == NEVER_NS


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "10"}, 10_000),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "10", "WATCHDOG_PID": "1"}, 0),
    ],
)
def test_the_period_is_that_of_this_process(environment: dict[str, str], expected: int) -> None:
    assert watchdog_ns(environment) == expected


def test_a_manager_that_went_away_does_not_end_the_run(tmp_path: Path) -> None:
    with closing(Service({"NOTIFY_SOCKET": str(tmp_path / "gone")})) as service:
        service.say(READY)
